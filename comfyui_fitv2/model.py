"""FiTv2: the Flexible Vision Transformer (arXiv 2410.13925), a velocity model over patch tokens of any grid.

Where it departs from the published code: no attention mask at all, images of several sizes share one call without padding,
modulation is computed once an image, and rotary tables stay in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Attention, PackedBatch, TokenBatch, UniformBatch, attention
from .config import DDPM_TIMESTEPS, FiTConfig
from .extrapolation import Extrapolation
from .layers import Block, FinalLayer, LabelEmbed, PatchEmbed, TimestepEmbed
from .rope import Pair, Rotation, rope_table


def patchify(latents: Tensor, patch_size: int) -> Tensor:
    """(batch, C, H, W) to tokens (batch, H/p · W/p, C·p·p): rows first, channels ordered (c p1 p2)."""
    patches = latents.unflatten(3, (-1, patch_size)).unflatten(
        2, (-1, patch_size)
    )  # (b, c, h, p1, w, p2)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """The inverse of ``patchify`` for a (h, w) ``grid``."""
    patches = tokens.unflatten(2, (-1, patch_size, patch_size)).unflatten(
        1, grid
    )  # (b, h, w, c, p1, p2)
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class FiT(nn.Module):
    """FiTv2 with the published checkpoints' keys.

    ``operations`` supplies ``Linear`` and ``Embedding`` (``torch.nn``, or a host's casting layers), ``attention`` the
    kernel. Weights are initialised for training only where ``operations`` is ``torch.nn``.
    """

    def __init__(
        self,
        config: FiTConfig,
        *,
        operations: Any = nn,
        attention: Attention = attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.attention = attention
        factory = {"device": device, "dtype": dtype}
        d = config.hidden_size
        self.x_embedder = PatchEmbed(config, operations, **factory)
        self.t_embedder = TimestepEmbed(config, operations, **factory)
        self.y_embedder = LabelEmbed(config, operations, **factory)
        self.global_adaLN_modulation = (
            nn.Sequential(nn.SiLU(), operations.Linear(d, 6 * d, **factory))
            if config.adaln_lora_dim
            else None
        )
        self.blocks = nn.ModuleList(
            Block(config, operations, **factory) for _ in range(config.depth)
        )
        self.final_layer = FinalLayer(config, operations, **factory)
        if operations is nn:
            self._initialize()

    def _initialize(self) -> None:
        """Xavier-uniform layers; every block starts as the identity and the output as 0, as in DiT (arXiv 2212.09748)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for name, parameter in self.named_parameters():
            if name in (
                "y_embedder.embedding_table.weight",
                "t_embedder.mlp.0.weight",
                "t_embedder.mlp.2.weight",
            ):
                nn.init.normal_(parameter, std=0.02)
        modulations = [
            self.final_layer.adaLN_modulation,
            *(b.adaLN_modulation for b in self.blocks),
        ]
        if self.global_adaLN_modulation is not None:
            modulations.append(self.global_adaLN_modulation)
        for layer in (*(m[-1] for m in modulations), self.final_layer.linear):
            nn.init.zeros_(layer.weight)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, in which the model computes."""
        return self.x_embedder.proj.weight.dtype

    def forward(
        self, latents: Tensor, t: Tensor, y: Tensor, extrapolation: Extrapolation | None = None
    ) -> Tensor:
        """Velocity (data − noise) of ``latents`` (batch, C, H, W).

        ``t`` (batch,) is in [0, 1] with 1 = data, ``y`` (batch,) holds class ids. A version 1 takes DDPM timesteps of 0 to 999
        instead, with 0 = data, and gives the noise. H and W must be multiples of the patch
        size, else ``ValueError``. Without ``extrapolation`` the configuration's own is used. The velocity has the dtype of ``latents``.
        """
        grid = self._grid(latents)
        batch = UniformBatch(self.rotation(grid, latents.device, extrapolation, t), self.attention)
        tokens = patchify(latents, self.config.patch_size).to(self.dtype)
        return unpatchify(
            self.transform(tokens, t, y, batch).to(latents.dtype), grid, self.config.patch_size
        )

    def forward_packed(
        self,
        latents: Sequence[Tensor],
        t: Tensor,
        y: Tensor,
        extrapolation: Extrapolation | Sequence[Extrapolation | None] | None = None,
    ) -> list[Tensor]:
        """Velocities of latents (C, H_i, W_i) of different sizes in one call without padding.

        ``t`` and ``y`` hold one entry an image; ``extrapolation`` may.
        """
        extrapolations = (
            [extrapolation] * len(latents)
            if extrapolation is None or isinstance(extrapolation, Extrapolation)
            else extrapolation
        )
        if not len(extrapolations) == len(latents) == len(t) == len(y):
            raise ValueError(
                f"forward_packed got {len(latents)} latents, {len(t)} timesteps, {len(y)} labels and {len(extrapolations)} extrapolations; "
                "it takes one of each an image."
            )
        if not latents:
            return []
        patch = self.config.patch_size
        grids = [self._grid(x) for x in latents]
        device = latents[0].device
        rotations = [
            self.rotation(g, device, e, t[i : i + 1])
            for i, (g, e) in enumerate(zip(grids, extrapolations, strict=True))
        ]
        batch = PackedBatch(
            [(cos.flatten(0, -2), sin.flatten(0, -2)) for cos, sin in rotations], self.attention
        )
        tokens = torch.cat([patchify(x[None], patch) for x in latents], dim=1).to(self.dtype)
        out = self.transform(tokens, t, y, batch).to(latents[0].dtype).split(batch.lengths, dim=1)
        return [unpatchify(x, grid, patch)[0] for x, grid in zip(out, grids, strict=True)]

    def transform(self, tokens: Tensor, t: Tensor, y: Tensor, batch: TokenBatch) -> Tensor:
        """Tokens (rows, tokens, C·p·p) to velocity tokens of the same shape, in the dtype of ``tokens``."""
        conditioning = self.t_embedder(t, tokens.dtype) + self.y_embedder(y, tokens.dtype)
        shared_modulation = (
            0.0
            if self.global_adaLN_modulation is None
            else self.global_adaLN_modulation(conditioning)
        )
        x = self.x_embedder(tokens)
        for index, block in enumerate(self.blocks):
            x = self.run_block(index, block, x, conditioning, shared_modulation, batch)
        return self.final_layer(x, conditioning, batch)

    def run_block(
        self,
        index: int,
        block: nn.Module,
        x: Tensor,
        conditioning: Tensor,
        shared_modulation: Tensor | float,
        batch: TokenBatch,
    ) -> Tensor:
        """One block; a host overrides this to let others replace blocks."""
        return block(x, conditioning, shared_modulation, batch)

    def rotation(
        self,
        grid: tuple[int, int],
        device: torch.device,
        extrapolation: Extrapolation | None = None,
        t: Tensor | None = None,
        position_scale: Pair = (1.0, 1.0),
        position_shift: Pair = (0.0, 0.0),
    ) -> Rotation:
        """This model's rotary table of a (rows, columns) ``grid`` at the model's time ``t``; see ``rope_table``."""
        config = self.config
        extrapolation = extrapolation or config.default_extrapolation
        if t is not None and config.prediction == "epsilon":
            t = 1 - t / DDPM_TIMESTEPS
        return rope_table(
            grid,
            config.head_dim,
            config.rope_base,
            extrapolation,
            device,
            position_scale,
            position_shift,
            t,
        )

    def _grid(self, latents: Tensor) -> tuple[int, int]:
        channels, height, width = latents.shape[-3:]
        patch = self.config.patch_size
        if channels != self.config.in_channels or height % patch or width % patch:
            raise ValueError(
                f"Latents of shape {tuple(latents.shape)} do not fit: expected {self.config.in_channels} channels, height and width multiples of {patch}."
            )
        return height // patch, width // patch

"""FiTv2, the Flexible Vision Transformer (arXiv 2410.13925): a velocity model over patch tokens.

It departs from the published code in this: there is no attention mask at all, images of several
sizes share one call without padding, modulation is computed once per image instead of once per
token, and rotary tables stay in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .attention import Attention, PackedBatch, TokenBatch, UniformBatch, attention
from .config import FiTConfig
from .extrapolation import Extrapolation
from .flow import Flow, flow_of
from .layers import (
    Block,
    FinalLayer,
    LabelEmbed,
    LayerFactory,
    Operations,
    PatchEmbed,
    TimestepEmbed,
)
from .recommendation import Recommendation
from .rope import Pair, RopeKey, Rotation, rope_table, untraced

RunBlock = Callable[[int, nn.Module, Tensor, Tensor, "Tensor | float", TokenBatch], Tensor]
"""Runs, replaces or wraps a block: its index, the block, and the arguments of ``Block.forward``."""


def patchify(latents: Tensor, patch_size: int) -> Tensor:
    """(batch, C, H, W) to tokens (batch, H/p · W/p, C·p·p), row by row, ordered (c p1 p2)."""
    batch, channels, height, width = latents.shape
    grid = height // patch_size, width // patch_size
    patches = latents.reshape(batch, channels, grid[0], patch_size, grid[1], patch_size)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpatchify(tokens: Tensor, grid: tuple[int, int], patch_size: int) -> Tensor:
    """The inverse of ``patchify`` for a (rows, columns) ``grid``."""
    # (batch, rows, columns, c, p1, p2)
    patches = tokens.unflatten(2, (-1, patch_size, patch_size)).unflatten(1, grid)
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class FiT(nn.Module):
    """FiTv2 with the published checkpoints' keys.

    ``operations`` supplies ``Linear`` and ``Embedding``: ``torch.nn``, or a host's casting layers.
    ``attention`` is the kernel. Weights are initialised only where ``operations`` is ``torch.nn``.
    """

    def __init__(
        self,
        config: FiTConfig,
        *,
        operations: Operations = nn,
        attention: Attention = attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.attention = attention
        self.recommended_extrapolation: Sequence[Recommendation] | None = None
        """What the extrapolation "auto" chooses from; whoever loads a checkpoint sets it."""
        make, d = LayerFactory(operations, device, dtype), config.hidden_size
        self.x_embedder = PatchEmbed(config, make)
        self.t_embedder = TimestepEmbed(config, make)
        self.y_embedder = LabelEmbed(config, make)
        self.global_adaLN_modulation = (
            nn.Sequential(nn.SiLU(), make.linear(d, 6 * d)) if config.adaln_lora_dim else None
        )
        self.blocks = nn.ModuleList(Block(config, make) for _ in range(config.depth))
        self.final_layer = FinalLayer(config, make)
        if operations is nn:
            self._initialize()

    def _initialize(self) -> None:
        """Xavier-uniform layers; blocks start as the identity, the output as 0 (as in DiT)."""
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
            *(block.adaLN_modulation for block in cast("Iterable[Block]", self.blocks)),
        ]
        if self.global_adaLN_modulation is not None:
            modulations.append(self.global_adaLN_modulation)
        for modulation in modulations:
            nn.init.zeros_(cast(nn.Linear, modulation[-1]).weight)
        nn.init.zeros_(self.final_layer.linear.weight)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, in which the model computes."""
        return self.x_embedder.proj.weight.dtype

    @property
    def flow(self) -> Flow:
        """The noise process that the model follows."""
        return flow_of(self.config)

    def forward(
        self, latents: Tensor, t: Tensor, y: Tensor, extrapolation: Extrapolation | None = None
    ) -> Tensor:
        """Velocity (data − noise) of ``latents`` (batch, C, H, W), in their shape and dtype.

        ``t`` (batch,) is in [0, 1] with 1 = data, and ``y`` (batch,) holds class ids; floats
        (batch, classes + 1) blend classes by weights, the null class last. A version 1 takes DDPM
        timesteps of 0 (data) to 999 instead and gives the noise. ``extrapolation`` None is the
        model's own. Raises ``ValueError`` where C is not the model's, or H or W not a multiple of
        the patch size.
        """
        grid, patch = self._grid(latents), self.config.patch_size
        batch = UniformBatch(self.rotation(grid, latents.device, extrapolation, t), self.attention)
        out = self.transform(patchify(latents, patch).to(self.dtype), t, y, batch)
        return unpatchify(out.to(latents.dtype), grid, patch)

    def forward_packed(
        self,
        latents: Sequence[Tensor],
        t: Tensor,
        y: Tensor,
        extrapolation: Extrapolation | Sequence[Extrapolation | None] | None = None,
    ) -> list[Tensor]:
        """Velocities of latents (C, H_i, W_i) of different sizes, in one call without padding.

        ``t`` and ``y`` hold one entry per image; ``extrapolation`` is one for all, or one per
        image. Raises ``ValueError`` where their numbers differ, and otherwise as ``forward`` does.
        """
        if not len(latents) == len(t) == len(y):
            raise ValueError(
                f"forward_packed got {len(latents)} latents, {len(t)} timesteps and {len(y)} "
                "labels; it takes one of each per image."
            )
        if not latents:
            return []
        grids, patch = [self._grid(x) for x in latents], self.config.patch_size
        batch = PackedBatch.of(self, grids, t, extrapolation)
        tokens = torch.cat([patchify(x[None], patch) for x in latents], dim=1)
        out = self.transform(tokens.to(self.dtype), t, y, batch).to(latents[0].dtype)
        images = zip(out.split(batch.lengths, dim=1), grids, strict=True)
        return [unpatchify(x, grid, patch)[0] for x, grid in images]

    def transform(
        self,
        tokens: Tensor,
        t: Tensor,
        y: Tensor,
        batch: TokenBatch,
        run_block: RunBlock | None = None,
    ) -> Tensor:
        """Tokens (rows, tokens, C·p·p) to velocity tokens, in their shape and dtype.

        With ``run_block`` each block is run by it: to let others replace blocks, or to checkpoint.
        """
        conditioning = self.t_embedder(t, tokens.dtype) + self.y_embedder(y, tokens.dtype)
        shared = self.global_adaLN_modulation
        shared_modulation = 0.0 if shared is None else shared(conditioning)
        x = self.x_embedder(tokens)
        for index, block in enumerate(self.blocks):
            if run_block is None:
                x = block(x, conditioning, shared_modulation, batch)
            else:
                x = run_block(index, block, x, conditioning, shared_modulation, batch)
        return self.final_layer(x, conditioning, batch)

    @untraced
    def rotation(
        self,
        grid: tuple[int, int],
        device: torch.device,
        extrapolation: Extrapolation | None = None,
        t: Tensor | None = None,
        position_scale: Pair = (1.0, 1.0),
        position_shift: Pair = (0.0, 0.0),
    ) -> Rotation:
        """This model's rotary table for a (rows, columns) ``grid`` at its times ``t`` (batch,).

        See ``rope.rope_table`` for the shapes; ``t`` matters only if the extrapolation follows
        time.
        """
        config = self.config
        extrapolation = extrapolation or config.default_extrapolation
        extrapolation = extrapolation.for_model(config, self.recommended_extrapolation)
        key = RopeKey(
            grid,
            config.head_dim,
            config.rope_base,
            extrapolation.at(*grid),
            device,
            position_scale,
            position_shift,
        )
        return rope_table(key, None if t is None else self.flow.rope_time(t))

    @untraced
    def rotations(
        self,
        grids: Sequence[tuple[int, int]],
        t: Tensor,
        extrapolations: Extrapolation | Sequence[Extrapolation | None] | None = None,
        position_scale: Pair = (1.0, 1.0),
        position_shift: Pair = (0.0, 0.0),
    ) -> list[Rotation]:
        """One rotary table (tokens, head_dim / 2) per image, whether it follows time or not.

        ``t`` is (images,), on the device of the tables; one extrapolation is for all images. Raises
        ``ValueError`` where the numbers differ.
        """
        if extrapolations is None or isinstance(extrapolations, Extrapolation):
            extrapolations = [extrapolations] * len(grids)
        if not len(extrapolations) == len(grids) == len(t):
            raise ValueError(
                f"{len(grids)} images have {len(t)} timesteps and {len(extrapolations)} "
                "extrapolations; there must be one of each per image."
            )
        tables = (
            self.rotation(grid, t.device, extrapolation, time[None], position_scale, position_shift)
            for grid, extrapolation, time in zip(grids, extrapolations, t, strict=True)
        )
        # A table that follows time has two more axes, of length 1 here.
        return [(cos.flatten(0, -2), sin.flatten(0, -2)) for cos, sin in tables]

    def _grid(self, latents: Tensor) -> tuple[int, int]:
        """(rows, columns) of tokens of latents (…, C, H, W)."""
        channels, height, width = latents.shape[-3:]
        patch = self.config.patch_size
        if channels != self.config.in_channels or height % patch or width % patch:
            raise ValueError(
                f"Latents of shape {tuple(latents.shape)} do not fit: expected "
                f"{self.config.in_channels} channels, height and width multiples of {patch}."
            )
        return height // patch, width // patch

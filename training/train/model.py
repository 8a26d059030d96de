"""The model in training: micro-batches of tokens in, precision and activation checkpointing applied from outside.

Weights, gradients and optimizer are fp32; with "bf16" matrix products and activations are bf16 by autocast. The keys of its state
dict are the published ones.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from comfyui_fitv2.attention import PackedBatch, TokenBatch, attention
from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.model import FiT
from comfyui_fitv2.rope import Rotation, rotate

from .batches import MicroBatch

_MOST_SCORES = 1024
"""Tokens of an image."""


class PaddedBatch(TokenBatch):
    """Images of several sizes, a row each, padded to the longest: what packing saves, to compare with it."""

    def __init__(self, rotations: list[Rotation]) -> None:
        cos, sin = (
            pad_sequence(list(tables), batch_first=True).unsqueeze(1)
            for tables in zip(*rotations, strict=True)
        )
        self.rotation = cos, sin
        lengths = torch.tensor([len(cos) for cos, _ in rotations])
        # (images, 1, 1, tokens): which tokens can be attended to.
        self.mask = (torch.arange(cos.shape[2]) < lengths[:, None])[:, None, None].to(cos.device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            rotate(query, self.rotation), rotate(key, self.rotation), value, attn_mask=self.mask
        )

    def per_token(self, per_image: Tensor) -> Tensor:
        return per_image.unsqueeze(1)


class TrainedFiT(FiT):
    """A FiT that also takes a ``MicroBatch``, and then gives the velocities of its tokens."""

    _no_split_modules = ("Block",)
    """What accelerate's sharding (FSDP2) keeps together."""

    def __init__(
        self,
        config: FiTConfig,
        precision: Literal["bf16", "fp32"] = "fp32",
        activation_checkpointing: bool = False,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(config, device=device)
        self.precision = precision
        self.activation_checkpointing = activation_checkpointing

    def forward(
        self,
        latents: Tensor | MicroBatch,
        t: Tensor | None = None,
        y: Tensor | None = None,
        extrapolation: Extrapolation | None = None,
    ) -> Tensor:
        """Of latents as ``FiT.forward``; of a micro-batch (rows, tokens, C·p·p), in the precision that was computed in."""
        where = latents.tokens.device if isinstance(latents, MicroBatch) else latents.device
        with torch.autocast(where.type, torch.bfloat16, enabled=self.precision == "bf16"):
            if not isinstance(latents, MicroBatch):
                assert t is not None
                assert y is not None
                return super().forward(latents, t, y, extrapolation)
            return self.transform(latents.tokens, latents.t, latents.y, self._batch(latents))

    def run_block(
        self,
        index: int,
        block: nn.Module,
        x: Tensor,
        conditioning: Tensor,
        shared_modulation: Tensor | float,
        batch: TokenBatch,
    ) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled():
            return cast(
                Tensor,
                checkpoint(block, x, conditioning, shared_modulation, batch, use_reentrant=False),
            )
        return super().run_block(index, block, x, conditioning, shared_modulation, batch)

    def _batch(self, batch: MicroBatch) -> TokenBatch:
        rotations = [
            self.rotation(grid, batch.tokens.device, None, batch.t[i : i + 1])
            for i, grid in enumerate(batch.grids)
        ]
        rotations = [(cos.flatten(0, -2), sin.flatten(0, -2)) for cos, sin in rotations]
        if batch.padded:
            return PaddedBatch(rotations)
        as_products = (
            batch.tokens.device.type == "cpu"
            and self.precision == "bf16"
            and self.attention is attention
        )
        return PackedBatch(rotations, attention_by_products if as_products else self.attention)


def attention_by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention in bf16 as two matrix products: on a CPU, forward and backward take half the time of the fused kernel's. Its scores are kept, so
    long images, which would fill the memory with them, go through that kernel."""
    if query.shape[-2] > _MOST_SCORES:
        return attention(query, key, value)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return scores.softmax(-1) @ value

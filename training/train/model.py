"""The model in training: micro-batches of tokens in, precision and checkpointing from outside.

Weights, gradients and optimizer are fp32; with "bf16", matrix products and activations are bf16
under autocast. The keys of its state dict are the published ones.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from comfyui_fitv2.attention import TokenBatch
from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.devices import copied_to
from comfyui_fitv2.model import FiT
from comfyui_fitv2.rope import Rotation, rotate

from .pack import TrainedPack
from .training_set import MicroBatch


class PaddedBatch(TokenBatch):
    """Images of several sizes, one row each, padded to the longest: packing is compared with it."""

    def __init__(self, rotations: list[Rotation]) -> None:
        cos, sin = (
            pad_sequence(list(tables), batch_first=True).unsqueeze(1)
            for tables in zip(*rotations, strict=True)
        )
        self.rotation = cos, sin
        lengths = torch.tensor([len(cos) for cos, _ in rotations])
        # (images, 1, 1, tokens): which tokens can be attended to.
        mask = (torch.arange(cos.shape[2]) < lengths[:, None])[:, None, None]
        self.mask = copied_to(cos.device, mask)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            rotate(query, self.rotation), rotate(key, self.rotation), value, attn_mask=self.mask
        )

    def per_token(self, per_image: Tensor) -> Tensor:
        return per_image.unsqueeze(1)


class TrainedFiT(FiT):
    """A FiT that also takes a ``MicroBatch``, in a precision, and may recompute activations."""

    _no_split_modules = ("Block",)
    """The modules that accelerate's FSDP2 shards as units; it looks for this name."""

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
        self.compiled = False
        """Whether the blocks are compiled, for training; see ``compilation.compile_blocks``."""

    def forward(self, latents: Tensor | MicroBatch, *arguments: Any, **options: Any) -> Tensor:
        """``forward_micro_batch``, or ``FiT.forward`` for latents, in the model's precision.

        One method for both, because DDP and FSDP2 know only ``forward``.
        """
        device = latents.tokens.device if isinstance(latents, MicroBatch) else latents.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            if isinstance(latents, MicroBatch):
                return self.forward_micro_batch(latents)
            return super().forward(latents, *arguments, **options)

    def transform(self, *arguments: Any, **options: Any) -> Tensor:
        # Samples and held-out images are too few to compile graphs of their own for them.
        eager = self.compiled and not torch.is_grad_enabled()
        with torch.compiler.set_stance("force_eager") if eager else nullcontext():
            return super().transform(*arguments, **options)

    def forward_micro_batch(self, batch: MicroBatch) -> Tensor:
        """The model's answer for every token: (rows, tokens, C·p·p), in the compute precision."""
        recompute = self.activation_checkpointing and torch.is_grad_enabled()
        return self.transform(
            batch.tokens,
            batch.t,
            batch.y,
            self._token_batch(batch),
            run_block=_run_checkpointed if recompute else None,
        )

    def _token_batch(self, batch: MicroBatch) -> TokenBatch:
        if batch.padded:
            return PaddedBatch(self.rotations(batch.grids, batch.t))
        pack = TrainedPack(self.rotations(batch.grids, batch.t), self.attention)
        on_cpu = batch.tokens.device.type == "cpu"
        pack.by_products = on_cpu and self.precision == "bf16" and self.config.qk_norm
        return pack


def _run_checkpointed(
    index: int,
    block: nn.Module,
    x: Tensor,
    conditioning: Tensor,
    shared_modulation: Tensor | float,
    batch: TokenBatch,
) -> Tensor:
    return cast(
        Tensor, checkpoint(block, x, conditioning, shared_modulation, batch, use_reentrant=False)
    )

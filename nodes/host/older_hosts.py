"""What ComfyUI has learned since the oldest version that the pack works with."""

from __future__ import annotations

from collections.abc import Sequence

import comfy.utils
import torch
from comfy import model_management
from comfy.nested_tensor import NestedTensor
from torch import Tensor

from .previews import StepCallback


def intermediate_dtype() -> torch.dtype:
    """The dtype of latents between nodes."""
    try:
        return model_management.intermediate_dtype()
    except AttributeError:  # before 0.18
        return torch.float32


def with_nested_latents(callback: StepCallback, shapes: Sequence[Sequence[int]]) -> StepCallback:
    """A callback that gets the latents of a pack nested; before 0.30 they come in one row."""

    def nested(latents: Tensor | NestedTensor) -> NestedTensor:
        if isinstance(latents, NestedTensor):
            return latents
        return NestedTensor(comfy.utils.unpack_latents(latents, shapes))

    def call(
        step: int, denoised: Tensor | NestedTensor, latents: Tensor | NestedTensor, steps: int
    ) -> None:
        callback(step, nested(denoised), nested(latents), steps)

    return call

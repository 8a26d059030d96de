"""Copies from the CPU to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def copied_to(device: torch.device, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """``x`` on a device, and of a ``dtype`` if one is given, without waiting where that is safe.

    CUDA has read the memory of the CPU when the call returns. MPS reads it later, when ``x`` may be
    gone and its memory another tensor's (github.com/pytorch/pytorch/issues/189690): there it waits.
    """
    return x.to(device, dtype, non_blocking=device.type == "cuda")

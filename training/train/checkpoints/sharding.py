"""Whole tensors from sharded ones (FSDP2's DTensor) and back. Plain tensors pass through."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(tensor: Tensor, wanted: bool = True) -> Tensor | None:
    """A detached copy on the CPU of all of a tensor, or None where it is not ``wanted``. Every process must ask for each sharded one, in the same order."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
        return tensor.cpu() if wanted else None
    return tensor.to("cpu", copy=True) if wanted else None


@torch.no_grad()
def copy_whole(target: Tensor, source: Tensor) -> None:
    """Write a whole tensor, which every process holds, into one that may be sharded. Raises ``ValueError`` on another shape."""
    if target.shape != source.shape:
        raise ValueError(f"shape {tuple(source.shape)}, expected {tuple(target.shape)}")
    if isinstance(target, DTensor):
        source = distribute_tensor(
            source.to(target.device, target.dtype), target.device_mesh, target.placements
        )
    target.copy_(source)

"""The one conversion between image tensors and 8-bit arrays, and how far two images differ."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def to_bytes(images: Tensor) -> np.ndarray:
    """Images (…, 3, H, W) in 0..1, of any float dtype and device, to uint8 (…, H, W, 3).

    Values are rounded; those outside of 0..1 are clamped.
    """
    levels = (images.movedim(-3, -1).float().clamp(0, 1) * 255).round()
    return levels.to("cpu", torch.uint8).numpy()


def from_bytes(array: np.ndarray) -> Tensor:
    """uint8 (…, H, W, 3) to fp32 images (…, 3, H, W) in 0..1, in the memory order of the array."""
    # from_numpy warns of read-only arrays, such as those of Pillow's images.
    writable = array if array.flags.writeable else array.copy()
    return torch.from_numpy(writable).movedim(-1, -3).float() / 255


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two tensors of one shape, in 0..1; at most 100."""
    error = (image - reference).square().mean().item()
    return -10 * math.log10(max(error, 1e-10))

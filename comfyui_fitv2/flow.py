"""The rectified-flow path: x_t = t·data + (1−t)·noise, with velocity data − noise (arXiv 2209.03003)."""

from __future__ import annotations

from torch import Tensor


def interpolate(data: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """The point of the path at time ``t`` in [0, 1], 1 = data; a tensor ``t`` must broadcast over ``data``."""
    return t * data + (1 - t) * noise


def velocity_from_denoised(denoised: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
    """Velocity at (x, t) of a model that predicts data: (data − x) / (1 − t). Undefined at t = 1."""
    return (denoised - x) / (1 - t)

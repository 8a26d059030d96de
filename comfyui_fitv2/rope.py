"""2-D rotary position embedding: half of a head turns with the row, half with the column.

Angles stay in fp32 whatever the model's precision: rounded to bf16, positions beyond 256 collapse onto each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from .extrapolation import Extrapolation

Pair = tuple[float, float]
Rotation = tuple[Tensor, Tensor]
F = TypeVar("F", bound=Callable[..., Any])


def untraced(function: F) -> F:
    """Keep ``torch.compile`` out of a function: what it reads is read at every call, and never baked into a graph."""
    return cast(F, torch.compiler.disable(function))


@untraced
def rope_table(
    grid: tuple[int, int],
    head_dim: int,
    base: float,
    extrapolation: Extrapolation,
    device: torch.device,
    position_scale: Pair = (1.0, 1.0),
    position_shift: Pair = (0.0, 0.0),
) -> Rotation:
    """Cosine and sine, (height·width, head_dim / 2) fp32 each, of every token of a (height, width) ``grid``, rows first.

    Position i of an axis is ``shift + i·scale`` tokens, (row, column) each. Tables are kept and shared: do not write to them.
    """
    return _rope_table(grid, head_dim, base, extrapolation, device, position_scale, position_shift)


@lru_cache(maxsize=64)
def _rope_table(grid: tuple[int, int], head_dim: int, base: float, extrapolation: Extrapolation, device: torch.device, scale: Pair, shift: Pair) -> Rotation:
    # A table first made under inference_mode would break a later training step that saves it for backward.
    with torch.inference_mode(False), torch.no_grad():
        frequencies = extrapolation.frequencies(*grid, head_dim // 2, base)
        rows, columns = (torch.outer(torch.arange(n, dtype=torch.float32) * a + b, f) for n, a, b, f in zip(grid, scale, shift, frequencies, strict=True))
        height, width = grid
        angles = torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], dim=1)
        magnitude = extrapolation.magnitude(*grid)
        return (angles.cos() * magnitude).to(device), (angles.sin() * magnitude).to(device)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the interleaved pairs of ``x`` (batch, heads, tokens, head_dim) by ``rotation``, in fp32; returns x's dtype."""
    cos, sin = rotation
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2).to(x.dtype)

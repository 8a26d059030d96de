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
    t: Tensor | None = None,
) -> Rotation:
    """Cosine and sine, (height·width, head_dim / 2) fp32 each, of every token of a (height, width) ``grid``, rows first.

    Position i of an axis is ``shift + i·scale`` tokens, (row, column) each. Tables are kept and shared: do not write to them.
    Where the extrapolation follows time, ``t`` (batch,) is needed and the tables are new ones of (batch, 1, height·width, head_dim / 2).
    """
    if extrapolation.follows_time:
        return _table(
            grid, head_dim, base, extrapolation, device, position_scale, position_shift, t
        )
    return _kept_table(grid, head_dim, base, extrapolation, device, position_scale, position_shift)


@lru_cache(maxsize=64)
def _kept_table(
    grid: tuple[int, int],
    head_dim: int,
    base: float,
    extrapolation: Extrapolation,
    device: torch.device,
    scale: Pair,
    shift: Pair,
) -> Rotation:
    # A table first made under inference_mode would break a later training step that saves it for backward.
    with torch.inference_mode(False), torch.no_grad():
        cos, sin = _table(grid, head_dim, base, extrapolation, torch.device("cpu"), scale, shift)
        return cos.to(device), sin.to(device)


def _table(
    grid: tuple[int, int],
    head_dim: int,
    base: float,
    extrapolation: Extrapolation,
    device: torch.device,
    scale: Pair,
    shift: Pair,
    t: Tensor | None = None,
) -> Rotation:
    frequencies = extrapolation.frequencies(*grid, head_dim // 2, base, t)

    def angles(axis: int) -> Tensor:
        positions = (
            torch.arange(grid[axis], dtype=torch.float32, device=device) * scale[axis] + shift[axis]
        )
        return positions[:, None] * frequencies[axis].unsqueeze(-2)

    height, width = grid
    whole = torch.cat(
        [angles(0).repeat_interleave(width, -2), torch.cat([angles(1)] * height, -2)], -1
    )
    magnitude = extrapolation.magnitude(*grid)
    if t is not None:
        whole = whole.unsqueeze(1)
    return whole.cos() * magnitude, whole.sin() * magnitude


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the interleaved pairs of ``x`` (batch, heads, tokens, head_dim) by ``rotation``, in fp32; returns x's dtype."""
    cos, sin = rotation
    pairs = x.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # fuses real arithmetic, and knows nothing of complex numbers
        even, odd = pairs.unbind(-1)
        turned = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    else:  # one pass over the numbers instead of seven
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cos, sin))
    return turned.flatten(-2).to(x.dtype)

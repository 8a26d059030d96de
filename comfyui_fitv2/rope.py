"""2-D rotary position embedding: half of a head turns with the row, half with the column.

Angles stay in fp32 whatever the model's precision: in bf16, positions beyond 256 become equal.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from .devices import copied_to
from .extrapolation import Extrapolation

Pair = tuple[float, float]
Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of every token's angles."""
F = TypeVar("F", bound=Callable[..., Any])

_HAVE_COMPLEX = ("cpu", "cuda")
"""Devices that multiply complex numbers, also in the backward pass; DirectML and MPS do not."""


def untraced(function: F) -> F:
    """Keep ``torch.compile`` out of ``function``.

    What it reads is then read at every call and never becomes a constant of a compiled graph.
    """
    return cast(F, torch.compiler.disable(function))


@dataclass(frozen=True, slots=True)
class RopeKey:
    """All that decides a rotary table, except for the time; also the key of the cache of tables."""

    grid: tuple[int, int]
    """Tokens as (rows, columns)."""
    head_dim: int
    base: float
    extrapolation: Extrapolation
    """With its ``train_length`` set; see ``Extrapolation.for_model``."""
    device: torch.device
    position_scale: Pair = (1.0, 1.0)
    position_shift: Pair = (0.0, 0.0)
    """Position i of an axis is shift + i·scale, in tokens; (rows, columns) each."""


def rope_table(key: RopeKey, t: Tensor | None = None) -> Rotation:
    """Cosine and sine, (rows·columns, head_dim / 2) fp32 each, of every token, row by row.

    Tables are cached and shared: treat them as read-only. An extrapolation that follows time needs
    ``t`` (batch,), 1 = data, and gives new tables of (batch, 1, rows·columns, head_dim / 2).
    """
    return _table(key, t) if key.extrapolation.follows_time else _cached_table(key)


@lru_cache(maxsize=64)
def _cached_table(key: RopeKey) -> Rotation:
    # A table first made in inference mode would break a later training step, which saves it for
    # the backward pass.
    with torch.inference_mode(False), torch.no_grad():
        cos, sin = _table(key)
        return copied_to(key.device, cos), copied_to(key.device, sin)


def _table(key: RopeKey, t: Tensor | None = None) -> Rotation:
    height, width = key.grid
    device = torch.device("cpu") if t is None else key.device
    frequencies = key.extrapolation.frequencies(*key.grid, key.head_dim // 2, key.base, t)

    def angles(axis: int) -> Tensor:
        """(length of the axis, head_dim / 4), or (batch, …) with ``t``."""
        positions = torch.arange(key.grid[axis], dtype=torch.float32, device=device)
        positions = positions * key.position_scale[axis] + key.position_shift[axis]
        return positions[:, None] * frequencies[axis].unsqueeze(-2)

    of_rows = angles(0).repeat_interleave(width, -2)
    of_columns = torch.cat([angles(1)] * height, -2)
    table = torch.cat([of_rows, of_columns], -1)
    if t is not None:
        table = table.unsqueeze(1)
    magnitude = key.extrapolation.magnitude(*key.grid)
    return table.cos() * magnitude, table.sin() * magnitude


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the interleaved pairs of ``x`` (batch, heads, tokens, head_dim).

    The arithmetic is fp32; the result has the dtype of ``x``.
    """
    pairs = x.float().unflatten(-1, (-1, 2))
    # torch.compile fuses real arithmetic, but cannot fuse complex numbers.
    if x.device.type in _HAVE_COMPLEX and not torch.compiler.is_compiling():
        with suppress(RuntimeError):  # a build of PyTorch without them
            return _turned_as_complex(pairs, rotation).flatten(-2).to(x.dtype)
    return _turned(pairs, rotation).flatten(-2).to(x.dtype)


def _turned_as_complex(pairs: Tensor, rotation: Rotation) -> Tensor:
    """``_turned`` bit by bit, in one pass over the numbers instead of seven."""
    return torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(*rotation))


def _turned(pairs: Tensor, rotation: Rotation) -> Tensor:
    cos, sin = rotation
    even, odd = pairs.unbind(-1)
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1)

"""More images than fit on one contact sheet, on several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image

from .contact_sheet import (
    CELL_SIDE,
    FITTED,
    MAX_SIDE,
    TRUE_SCALE,
    Grid,
    Layout,
    SheetTooLargeError,
    largest_area,
    lay_out,
)
from .fonts import SYSTEM_FONTS

SMALLEST = 64
"""The side in pixels below which an image is too small to judge."""


class _Part(NamedTuple):
    """Some rows and columns of a grid, with their names."""

    grid: Grid
    rows: Sequence[str]
    columns: Sequence[str]


def contact_sheets(
    grid: Grid,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    title: str = "",
    scale: str = FITTED,
    max_side: int = MAX_SIDE,
    cell_side: int = CELL_SIDE,
    fonts: Sequence[str] = SYSTEM_FONTS,
) -> list[Image.Image]:
    """A ``contact_sheet``, or several of some rows and columns each, all of one scale.

    There are several where images of one would have less than the area of a 64² square, or of a
    ``cell_side``² one if that is smaller. Titles then count the sheets. Raises ``ValueError`` as
    ``contact_sheet`` does.
    """
    layouts = _layouts(grid, rows, columns, title, scale, max_side, cell_side, fonts)
    return [layout.draw() for layout in layouts]


def count_sheets(grid: Grid, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> int:
    """The number of ``contact_sheets``, for images or for ``Blank`` ones of the same sizes."""
    return len(_layouts(grid, rows, columns, "", FITTED, MAX_SIDE, CELL_SIDE, SYSTEM_FONTS))


def _layouts(
    grid: Grid,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    scale: str,
    max_side: int,
    cell_side: int,
    fonts: Sequence[str],
) -> list[Layout]:
    smallest = min(SMALLEST, cell_side)

    def fit(part: _Part, name: str, side: float) -> Layout:
        factor = (largest_area(part.grid) / largest_area(grid)) ** 0.5 if scale == TRUE_SCALE else 1
        layout = lay_out(
            *part, name, scale, max_side, side * factor, fonts, min(smallest, side) * factor
        )
        layout.side /= factor
        return layout

    def parts_of(part: _Part) -> Iterator[_Part]:
        try:
            fit(part, f"{title} (99 of 99)" if part is not whole else title, cell_side)
        except SheetTooLargeError as error:
            if len(part.grid) == len(part.grid[0]) == 1:
                raise
            for smaller in _split(part, error.size, max_side):
                yield from parts_of(smaller)
        else:
            yield part

    width = max(map(len, grid), default=0)
    whole = _Part([[*row, *[None] * (width - len(row))] for row in grid], rows, columns)
    parts = list(parts_of(whole))
    names = [title] * len(parts)
    if title and len(parts) > 1:
        names = [f"{title} ({number} of {len(parts)})" for number in range(1, len(parts) + 1)]
    pairs = list(zip(parts, names, strict=True))
    side = min(fit(part, name, cell_side).side for part, name in pairs)
    return [fit(part, name, side) for part, name in pairs]


def _split(part: _Part, size: tuple[int, int], max_side: int) -> Iterator[_Part]:
    """The part in several of fewer rows, or of fewer columns, by what is too long.

    Those without an image are left out.
    """
    grid, rows, columns = part
    width, height = len(grid[0]), len(grid)
    if width > 1 and (size[0] > size[1] or height == 1):
        each = _share(width, size[0], max_side)
        parts = [
            _Part([row[at : at + each] for row in grid], rows, columns[at : at + each])
            for at in range(0, width, each)
        ]
    else:
        each = _share(height, size[1], max_side)
        parts = [
            _Part(grid[at : at + each], rows[at : at + each], columns)
            for at in range(0, height, each)
        ]
    return (part for part in parts if any(cell for row in part.grid for cell in row))


def _share(count: int, length: int, max_side: int) -> int:
    """How many of ``count`` go on a sheet if all take this length: fewer than all, at least 1."""
    return -(-count // max(-(-length // max_side), 2))

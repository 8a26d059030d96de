"""A sheet with images of every model, so that figures can be compared with what eyes see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from sheets.contact_sheet import mosaic

from ..whole_files import write_whole

_GAP, _LABEL_WIDTH = 4, 150


def write_row(images: Sequence[Image.Image], file: Path) -> None:
    """Write the images of one model side by side, atomically."""
    _write([images], file)


def write_sheet(rows: Sequence[tuple[str, Path]], file: Path) -> None:
    """Write one sheet of the rows that there are, each with the name of its model."""
    grid = []
    for name, path in rows:
        if path.is_file():
            with Image.open(path) as row:
                strip = row.convert("RGB")
            grid.append([_label(name, strip.height), strip])
    if grid:
        _write(grid, file)


def _label(name: str, height: int) -> Image.Image:
    label = Image.new("RGB", (_LABEL_WIDTH, height), "white")
    ImageDraw.Draw(label).text((6, height // 2 - 6), name, fill="black")
    return label


def _write(grid: Sequence[Sequence[Image.Image]], file: Path) -> None:
    with write_whole(file) as temporary:
        mosaic(grid, _GAP).save(temporary, "PNG")

"""A sheet with images of every model, so that figures can be compared with what eyes see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..whole_files import write_whole

_GAP, _LABEL_WIDTH = 4, 150


def write_row(images: Sequence[Image.Image], file: Path) -> None:
    """Write the images of one model side by side, atomically."""
    _write(_joined(images), file)


def write_sheet(rows: Sequence[tuple[str, Path]], file: Path) -> None:
    """Write one sheet of the rows that there are, each with the name of its model."""
    strips = []
    for name, path in rows:
        if path.is_file():
            with Image.open(path) as row:
                strip = Image.new("RGB", (_LABEL_WIDTH + row.width, row.height), "white")
                strip.paste(row.convert("RGB"), (_LABEL_WIDTH, 0))
            ImageDraw.Draw(strip).text((6, strip.height // 2 - 6), name, fill="black")
            strips.append(strip)
    if strips:
        _write(_joined(strips, upright=True), file)


def _joined(images: Sequence[Image.Image], *, upright: bool = False) -> Image.Image:
    """All images in a row, or below each other, on white."""
    widths, heights = ([image.size[axis] for image in images] for axis in (0, 1))
    gaps = _GAP * (len(images) - 1)
    size = (max(widths), sum(heights) + gaps) if upright else (sum(widths) + gaps, max(heights))
    sheet = Image.new("RGB", size, "white")
    offset = 0
    for image in images:
        sheet.paste(image, (0, offset) if upright else (offset, 0))
        offset += image.size[upright] + _GAP
    return sheet


def _write(image: Image.Image, file: Path) -> None:
    with write_whole(file) as temporary:
        image.save(temporary, "PNG")

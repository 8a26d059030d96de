"""A small picture of every class of a model, all in one WebP file beside its checkpoint.

The layout is in the file itself, as JSON in the field of EXIF that describes an image.
"""

from __future__ import annotations

import io
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

SUFFIX = ".classes.webp"
TILE_WIDTH = 72
"""Pixels."""
LARGEST_SIDE = 16383
"""Pixels; what WebP allows."""
LARGEST_FILE = 16_000_000
"""Bytes of a file that is read."""
_IMAGE_DESCRIPTION = 270
_TILE_HEIGHTS = (0.5, 1.5)
"""Least and largest height of a tile, in widths."""
_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tiles are: that of class i is in column i % columns and row i // columns.

    Raises ``ValueError`` for anything but whole numbers above 0.
    """

    classes: int
    columns: int
    tile_width: int
    """Pixels, as is ``tile_height``."""
    tile_height: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, not {value!r}")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet in pixels."""
        rows = math.ceil(self.classes / self.columns)
        return self.columns * self.tile_width, rows * self.tile_height


@dataclass(frozen=True, slots=True)
class ClassSheet:
    """A sheet as it is in its file."""

    image: bytes
    """The WebP file."""
    layout: Layout


def sheet_path(checkpoint: Path) -> Path:
    """The file of a checkpoint's sheet: mine.classes.webp beside mine.safetensors."""
    return checkpoint.with_name(f"{checkpoint.stem}{SUFFIX}")


def layout_for(sizes: Sequence[tuple[int, int]], tile_width: int = TILE_WIDTH) -> Layout:
    """The layout for images of these (width, height), one per class.

    About square, with tiles in the proportions of the middle image. Raises ``ValueError`` for no
    images, and for more than WebP's largest side allows.
    """
    if not sizes:
        raise ValueError("A class sheet needs at least one class.")
    middle = statistics.median(height / width for width, height in sizes)
    least, largest = (round(tile_width * factor) for factor in _TILE_HEIGHTS)
    tile_height = min(max(round(tile_width * middle), least), largest)
    columns = math.ceil(math.sqrt(len(sizes) * tile_height / tile_width))
    layout = Layout(len(sizes), columns, tile_width, tile_height)
    if max(layout.size) > LARGEST_SIDE:
        raise ValueError(
            f"{len(sizes)} classes need a sheet of {layout.size[0]} × {layout.size[1]} pixels, and "
            f"WebP allows {LARGEST_SIDE} a side."
        )
    return layout


class SheetMaker:
    """Takes the images of all classes one by one, so that they are never in memory together."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._sheet = Image.new("RGBA", layout.size, (0, 0, 0, 0))

    def put(self, class_id: int, image: Image.Image) -> None:
        """Place an image of any size: fitted into its tile, in the middle, with nothing around."""
        width, height = self.layout.tile_width, self.layout.tile_height
        scale = min(width / image.width, height / image.height)
        size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
        tile = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        row, column = divmod(class_id, self.layout.columns)
        left = column * width + (width - size[0]) // 2
        top = row * height + (height - size[1]) // 2
        self._sheet.paste(tile, (left, top))

    def encode(self) -> bytes:
        """The sheet as a WebP file, which ``read`` reads."""
        exif = Image.Exif()
        exif[_IMAGE_DESCRIPTION] = json.dumps({"fitv2_class_sheet": asdict(self.layout)})
        buffer = io.BytesIO()
        self._sheet.save(buffer, "WEBP", quality=_QUALITY, method=6, exif=exif)
        return buffer.getvalue()


def read(path: Path) -> ClassSheet:
    """A sheet of a file, whose pixels are not decoded.

    Raises ``ValueError`` for a file that is no sheet, and ``OSError`` where it cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{path}: a class sheet has at most {LARGEST_FILE / 1e6:g} MB.")
    try:
        with Image.open(io.BytesIO(content), formats=["WEBP"]) as image:
            layout = _layout(image.getexif().get(_IMAGE_DESCRIPTION))
            size = image.size
    except (UnidentifiedImageError, ValueError, TypeError, SyntaxError) as error:
        raise ValueError(
            f"{path}: not a class sheet ({error}). training.export --class-sheet makes one."
        ) from None
    if size != layout.size:
        raise ValueError(
            f"{path}: a class sheet of {size[0]} × {size[1]} pixels that says it has "
            f"{layout.size[0]} × {layout.size[1]}."
        )
    return ClassSheet(content, layout)


def _layout(description: Any) -> Layout:
    if not isinstance(description, str):
        raise ValueError("it has no layout")
    try:
        parts = json.loads(description)
    except RecursionError:
        raise ValueError("its layout is nested too deeply") from None
    values = parts.get("fitv2_class_sheet") if isinstance(parts, dict) else None
    if not isinstance(values, dict):
        raise ValueError("it has no layout")
    return Layout(**values)

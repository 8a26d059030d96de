"""Image files, opened: regular files alone, of any size, in the formats that can be read."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any

from PIL import ExifTags, Image, UnidentifiedImageError

from .formats import HEAD_BYTES, content_reason, readable_formats

_FORMATS = readable_formats()

MAX_PIXELS = 2**29
"""About 2 GB in memory. Beyond it an image is refused, before the system ends the whole process."""

_ORIENTATIONS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodeError(ValueError):
    """An image that can be opened but not used."""


@contextmanager
def open_image(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """An image whose pixels are not decoded yet.

    Raises ``DecodeError`` for what is not a regular file, ``UnidentifiedImageError`` for what is no
    image, and what Pillow raises for damaged files.
    """
    if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
        raise DecodeError("not a regular file")  # opening a named pipe would block
    with _pillow_limit_lifted:
        try:
            image = Image.open(source, formats=_FORMATS)
        except UnidentifiedImageError:
            raise UnidentifiedImageError(_why_unidentified(source)) from None
        with image:
            yield image


def _why_unidentified(source: Path | IO[bytes]) -> str:
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(HEAD_BYTES)
    else:
        source.seek(0)
        head = source.read(HEAD_BYTES)
    return content_reason(head) or "not an image by its content, or damaged"


class _PillowLimitLifted:
    """Lifts Pillow's own limit while an image is read, by any number of threads.

    That limit is lower than ``MAX_PIXELS``, and counts pixels that are never decoded.
    """

    def __init__(self) -> None:
        self._lock, self._readers, self._limit = Lock(), 0, Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self._lock:
            if not self._readers:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                Image.MAX_IMAGE_PIXELS = self._limit


_pillow_limit_lifted = _PillowLimitLifted()


def too_large(size: tuple[int, int], max_pixels: int) -> str:
    """The reason why an image of this many pixels, width and height, is refused."""
    return (
        f"{size[0]} × {size[1]} pixels; images of up to {max_pixels:,} pixels in total can be "
        "read. Make it smaller."
    )


def orientation(image: Image.Image) -> Image.Transpose | None:
    """The turn that makes an image upright, by its Exif."""
    try:
        return _ORIENTATIONS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged EXIF raises anything, while the image itself may be intact
        return None

"""What is known of an image without decoding it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from .image_file import MAX_PIXELS, open_image, orientation, too_large

_QUARTER_TURNS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)
_MAX_DRAFT = 8
"""The smallest part of its size at which a JPEG is decoded is an eighth."""
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b"\0;"}
"""What stands at the end of a file that is whole."""
_END_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the first bytes of a file say of the image in it."""

    width: int = 0
    height: int = 0
    """In pixels, upright; 0 where the file is no image."""
    mode: str = ""
    """Pillow's name, such as RGB, L or CMYK."""
    format: str = ""
    """Pillow's name of the format that the content has, such as PNG, whatever the suffix says."""
    frames: int = 1
    """Frames or pages, of which the first is used."""
    reason: str | None = None
    """Why the file cannot be used, where that is sure."""


def probe(source: Path | IO[bytes]) -> ImageFacts:
    """What is known of an image without decoding it. Never raises for a damaged file.

    Only a file that seems to be cut short is decoded, to be sure. Other damage in the middle of a
    file is found when it is read.
    """
    try:
        with open_image(source) as image:
            turn = _orientation_before_pixels(image)
            width, height = image.size
            if turn in _QUARTER_TURNS:
                width, height = height, width
            facts = width, height, image.mode, image.format or "", _frames(image)
            return ImageFacts(*facts, _damage(image))
    except Exception as error:  # damaged files raise anything
        return ImageFacts(reason=_reason(error))


def _orientation_before_pixels(image: Image.Image) -> Image.Transpose | None:
    """As ``orientation``, without decoding a PNG in search of Exif that follows its pixels."""
    if image.format == "PNG" and "exif" not in image.info:
        return None
    return orientation(image)


def _frames(image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # later frames may be damaged while the first one is intact
        return 1


def _damage(image: Image.Image) -> str | None:
    """Why an opened image cannot be used, if that is sure."""
    size = image.size
    if image.format in ("JPEG", "MPO"):  # can be decoded at an eighth
        size = size[0] // _MAX_DRAFT, size[1] // _MAX_DRAFT
    if size[0] * size[1] > MAX_PIXELS:
        return too_large(image.size, MAX_PIXELS)
    if _seems_cut(image):
        try:
            image.draft(None, (1, 1))
            image.load()
        except Exception as error:  # damaged files raise anything
            return _reason(error)
    return None


def _reason(error: Exception) -> str:
    return f"{error}" or type(error).__name__


def _seems_cut(image: Image.Image) -> bool:
    """Whether pixels lie beyond the end of the file, or it does not end as its format does."""
    file, end = getattr(image, "fp", None), _ENDS.get(image.format or "", b"")
    if file is None:
        return False
    place = file.tell()
    try:
        length = file.seek(0, io.SEEK_END)
        file.seek(max(length - _END_BYTES, 0))
        return end not in file.read() or _pixels_end(image) > length
    finally:
        file.seek(place)


def _pixels_end(image: Image.Image) -> int:
    """Where the pixels of a TIFF end in its file; 0 for other formats."""
    tags = getattr(image, "tag_v2", {})
    for offsets, counts in ((273, 279), (324, 325)):  # of strips, of tiles
        if offsets in tags and counts in tags:
            return max(map(sum, zip(tags[offsets], tags[counts], strict=False)), default=0)
    return 0

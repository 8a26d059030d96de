"""Any image file that people have, as 8-bit RGB in the sizes that a model trains on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image

from comfyui_fitv2.resolution import flexible_resize

# fmt: off
SUFFIXES = frozenset([
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".tga", ".tif", ".tiff",
    ".webp",
])
"""Suffixes of image files, in lower case."""

_READABLE = frozenset([
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "PSD", "TGA", "TIFF",
    "WEBP",
])
# fmt: on
Image.init()
_FORMATS = sorted(Image.OPEN.keys() & _READABLE)
"""The formats a file may have, whatever its suffix: those that Pillow decodes itself. For EPS and
some others it would start programs."""

MAX_PIXELS = 2**29
"""About 2 GB in memory. Beyond it an image is refused, before the system ends the whole process."""

_DRAFT_MARGIN = 2
"""A JPEG may be decoded at a fraction of its size that is at least this many times as large as what
is needed, on each side."""

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


def read_versions(
    source: Path | IO[bytes], image_size: int, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, np.ndarray | None]:
    """An image at the sizes of the recipe (arXiv 2410.13925, section 3.4), resized and cropped.

    The resized version has at most ``image_size``² pixels. The crop is the middle, a square of
    ``image_size``; there is one where both sides are longer than that. A square image is its own
    middle, so it has none.

    Both are uint8 (height, width, 3): the first frame, upright, on white where transparent. Raises
    ``DecodeError`` beyond ``max_pixels``, and what Pillow raises for damaged files.
    """
    with _open(source) as image:
        width, height = image.size
        size = flexible_resize(width, height, image_size)
        has_crop = min(width, height) > image_size and width != height
        shorter = min(width, height)
        needed = _DRAFT_MARGIN * max(min(size.width, size.height), image_size if has_crop else 0)
        draft = -(-width * needed // shorter), -(-height * needed // shorter)  # rounded up
        rgb, turn = _decode(image, draft, max_pixels)
    versions = [rgb.resize((size.width, size.height), Image.Resampling.BICUBIC)]
    if has_crop:
        versions.append(_middle(rgb, image_size, image_size))
    resized, *cropped = (np.asarray(_turned(version, turn)) for version in versions)
    return resized, cropped[0] if cropped else None


def read_middle(
    source: Path | IO[bytes], width: int, height: int, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, bool]:
    """The largest part of the shape ``width`` : ``height``, from the middle, resized to that size.

    Also tells whether it was enlarged. Returns and raises as ``read_versions`` does.
    """
    with _open(source) as image:
        needed = _DRAFT_MARGIN * max(width, height)
        rgb, turn = _decode(image, (needed, needed), max_pixels)
    upright = _turned(rgb, turn)
    enlarged = upright.width < width or upright.height < height
    return np.asarray(_middle(upright, width, height)), enlarged


@contextmanager
def _open(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    with _pillow_limit_lifted, Image.open(source, formats=_FORMATS) as image:
        yield image


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


def _decode(
    image: Image.Image, needed: tuple[int, int], max_pixels: int
) -> tuple[Image.Image, Image.Transpose | None]:
    """The image in RGB, at least as large as ``needed``, and the turn that makes it upright."""
    width, height = image.size
    image.draft(None, needed)  # does something for a JPEG alone
    if image.width * image.height > max_pixels:
        raise DecodeError(
            f"{width} × {height} pixels; images of up to {max_pixels:,} pixels in total can be "
            "read. Make it smaller."
        )
    turn = _orientation(image)
    return _to_rgb(image), turn


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(image.width / width, image.height / height)
    # Clamped, because a rounded product may be larger than the image.
    left = max(image.width - width * scale, 0) / 2
    top = max(image.height - height * scale, 0) / 2
    box = (left, top, image.width - left, image.height - top)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _ORIENTATIONS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged EXIF raises anything, while the image itself may be intact
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Grey values of 16 bits, or floats in 0..1; Pillow's own conversion would clip them at 255."""
    highest = 1.0 if mode.startswith("F") else 65535.0
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= highest:
        raise DecodeError(
            f"its values go from {low} to {high}, expected 0 to {highest:g} (mode {mode})"
        )
    return np.rint(values.astype(np.float64) * (255 / highest)).astype(np.uint8)

"""Any image file that people have, as 8-bit sRGB in the sizes that a model trains on."""

from __future__ import annotations

import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from comfyui_fitv2.resolution import Resolution, flexible_resize

from .colour import colour_profile, to_srgb
from .formats import HEAD_BYTES, content_reason, readable_formats

_FORMATS = readable_formats()

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

_QUARTER_TURNS = frozenset(turn for code, turn in _ORIENTATIONS.items() if code >= 5)

_MAX_DRAFT = 8
"""The smallest part of its size at which a JPEG is decoded is an eighth."""
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND", "GIF": b"\0;"}
"""What stands at the end of a file that is whole."""
_END_BYTES = 4096


class DecodeError(ValueError):
    """An image that can be opened but not used."""


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
        with _open(source) as image:
            turn = _orientation_before_pixels(image)
            width, height = image.size
            if turn in _QUARTER_TURNS:
                width, height = height, width
            facts = width, height, image.mode, image.format or "", _frames(image)
            return ImageFacts(*facts, _damage(image))
    except Exception as error:  # damaged files raise anything
        return ImageFacts(reason=_reason(error))


def trained_size(width: int, height: int, image_size: int, enlarge: bool = False) -> Resolution:
    """The size at which ``read_versions`` returns an image of ``width`` × ``height`` pixels, whole.

    ``enlarge`` takes smaller images to the area of ``image_size``², too. Without it only a side
    below one token is enlarged, and the other side with it.
    """
    if enlarge and 0 < width * height < image_size**2:
        factor = -(-image_size // min(width, height))
        width, height = width * factor, height * factor
    return flexible_resize(width, height, image_size)


def read_versions(
    source: Path | IO[bytes],
    image_size: int,
    max_pixels: int = MAX_PIXELS,
    *,
    enlarge: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """An image at the sizes of the recipe (arXiv 2410.13925, section 3.4), resized and cropped.

    The resized version has at most ``image_size``² pixels, and with ``enlarge`` about as many for
    a smaller image too; ``trained_size`` tells it. The crop is the middle, a square of
    ``image_size``; there is one where both sides are longer than that. A square image is its own
    middle, so it has none.

    Both are uint8 (height, width, 3): the first frame, upright, in sRGB, on white where
    transparent. Raises ``DecodeError`` beyond ``max_pixels`` and for what is not a regular file,
    and what Pillow raises for damaged files.
    """
    with _open(source) as image:
        width, height = image.size
        size = trained_size(width, height, image_size, enlarge)
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
    if isinstance(source, Path) and not stat.S_ISREG(source.stat().st_mode):
        raise DecodeError("not a regular file")  # to open a named pipe would wait for ever
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


def _decode(
    image: Image.Image, needed: tuple[int, int], max_pixels: int
) -> tuple[Image.Image, Image.Transpose | None]:
    """The image in RGB, at least as large as ``needed``, and the turn that makes it upright."""
    size = image.size
    image.draft(None, needed)  # does something for a JPEG alone
    if image.width * image.height > max_pixels:
        raise DecodeError(_too_large(size, max_pixels))
    profile = colour_profile(image)
    turn = _orientation(image)
    return _to_rgb(image, profile), turn


def _too_large(size: tuple[int, int], max_pixels: int) -> str:
    return (
        f"{size[0]} × {size[1]} pixels; images of up to {max_pixels:,} pixels in total can be "
        "read. Make it smaller."
    )


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


def _orientation_before_pixels(image: Image.Image) -> Image.Transpose | None:
    """As ``_orientation``, without decoding a PNG in search of Exif that follows its pixels."""
    if image.format == "PNG" and "exif" not in image.info:
        return None
    return _orientation(image)


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
        return _too_large(image.size, MAX_PIXELS)
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


def _to_rgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        grey = Image.fromarray(_to_8_bits(np.asarray(image), image.mode))
        return to_srgb(grey, profile)
    if not image.has_transparency_data:
        return to_srgb(image, profile)
    is_grey = image.mode in ("1", "L", "LA", "La")
    layer = image.convert("LA" if is_grey else "RGBA")
    colours = to_srgb(layer.getchannel("L") if is_grey else layer.convert("RGB"), profile)
    white = Image.new("RGB", layer.size, "white")
    return Image.composite(colours, white, layer.getchannel("A"))


def _to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Grey values of 16 bits, or floats in 0..1; Pillow's own conversion would clip them at 255."""
    highest = 1.0 if mode.startswith("F") else 65535.0
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= highest:
        raise DecodeError(
            f"its values go from {low} to {high}, expected 0 to {highest:g} (mode {mode})"
        )
    return np.rint(values.astype(np.float64) * (255 / highest)).astype(np.uint8)

"""Any picture as people have it, as 8-bit RGB in the sizes that a model trains on."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image

from comfyui_fitv2.resolution import flexible_resize

# fmt: off
SUFFIXES = frozenset([
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".ico", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png",
    ".pnm", ".ppm", ".psd", ".tga", ".tif", ".tiff", ".webp",
])
# fmt: on
"""What names a picture in a folder, in lower case."""

Image.init()
_FORMATS = sorted(
    Image.OPEN.keys()
    & {
        "JPEG",
        "PNG",
        "WEBP",
        "GIF",
        "BMP",
        "DIB",
        "TIFF",
        "AVIF",
        "JPEG2000",
        "PPM",
        "TGA",
        "ICO",
        "PSD",
    }
)
"""What a file may be, whatever its name: formats that Pillow reads itself. EPS and others would start programs."""

_MOST_PIXELS = 2**29
"""About 2 GB in memory; a larger picture is refused on its own and not by the system, which would end the run."""

_DRAFT_MARGIN = 2
"""A JPEG is decoded at a fraction of its size only where that leaves this many pixels for one, on each side."""

_ORIENTATIONS: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow's own limit is a sixth of _MOST_PIXELS and counts pixels that a draft never decodes.
Image.MAX_IMAGE_PIXELS = None


class PictureError(ValueError):
    """A picture that can be opened, yet not used."""


def read_versions(source: Path | IO[bytes], max_side: int) -> tuple[np.ndarray, np.ndarray | None]:
    """A picture at the sizes of the recipe (arXiv 2410.13925, section 3.4): resized to at most ``max_side``² pixels and, where both sides are
    longer than ``max_side``, its middle as a square of that side. A square picture is its own middle and has no second version.

    Returns uint8 (height, width, 3), first frame, upright, on white where transparent. Raises what Pillow raises on broken pictures.
    """
    with Image.open(source, formats=_FORMATS) as image:
        width, height = image.size
        size = flexible_resize(width, height, max_side)
        has_crop = min(width, height) > max_side and width != height
        needed = _DRAFT_MARGIN * max(
            min(size.width, size.height), max_side if has_crop else 0
        )  # of the shorter side
        image.draft(
            None, tuple(-(-side * needed // min(width, height)) for side in (width, height))
        )  # acts on JPEG alone
        if image.width * image.height > _MOST_PIXELS:
            raise PictureError(
                f"{width} × {height} pixels; up to {_MOST_PIXELS:,} in all can be read. Make it smaller."
            )
        turn = _orientation(image)
        rgb = _to_rgb(image)
    versions = [
        rgb.resize((size.width, size.height), Image.Resampling.BICUBIC),
        *([_middle(rgb, max_side, max_side)] if has_crop else []),
    ]
    resized, *cropped = (
        np.asarray(version if turn is None else version.transpose(turn)) for version in versions
    )
    return resized, cropped[0] if cropped else None


def read_middle(source: Path | IO[bytes], width: int, height: int) -> tuple[np.ndarray, bool]:
    """The largest part of a picture that has the shape ``width`` : ``height``, from its middle, resized to that size; and whether it was enlarged for it.

    Returns and raises as ``read_versions``.
    """
    with Image.open(source, formats=_FORMATS) as image:
        needed = _DRAFT_MARGIN * max(width, height)
        image.draft(None, (needed, needed))  # acts on JPEG alone
        if image.width * image.height > _MOST_PIXELS:
            raise PictureError(
                f"{image.width} × {image.height} pixels; up to {_MOST_PIXELS:,} in all can be read. Make it smaller."
            )
        turn = _orientation(image)
        rgb = _to_rgb(image)
    upright = rgb if turn is None else rgb.transpose(turn)
    return np.asarray(
        _middle(upright, width, height)
    ), upright.width < width or upright.height < height


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(image.width / width, image.height / height)
    # Clamped, because a rounded product may reach beyond the picture.
    left, top = (
        max(side - part * scale, 0) / 2
        for side, part in ((image.width, width), (image.height, height))
    )
    return image.resize(
        (width, height),
        Image.Resampling.BICUBIC,
        box=(left, top, image.width - left, image.height - top),
    )


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return _ORIENTATIONS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged EXIF fails in any way, and the picture beside it may be whole
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_to_8_bits(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(values: np.ndarray, mode: str) -> np.ndarray:
    """Grey values of 16 bits, or floats in 0..1: Pillow's own conversion would cut them off at 255."""
    most = 1.0 if mode.startswith("F") else 65535.0
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= most:
        raise PictureError(
            f"its values go from {low} to {high}, expected 0 to {most:g} (mode {mode})"
        )
    return np.rint(values.astype(np.float64) * (255 / most)).astype(np.uint8)

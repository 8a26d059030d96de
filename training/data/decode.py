"""Any image file that people have, as 8-bit sRGB in the sizes that a model trains on."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from comfyui_fitv2.resolution import Resolution, flexible_resize

from .colour import colour_profile, to_srgb
from .image_facts import ImageFacts, probe
from .image_file import MAX_PIXELS, DecodeError, open_image, orientation, too_large

__all__ = ["DecodeError", "ImageFacts", "probe", "read_middle", "read_versions", "trained_size"]

_DRAFT_MARGIN = 2
"""A JPEG may be decoded at a fraction of its size that is at least this many times as large as what
is needed, on each side."""


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
    with open_image(source) as image:
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
    with open_image(source) as image:
        needed = _DRAFT_MARGIN * max(width, height)
        rgb, turn = _decode(image, (needed, needed), max_pixels)
    upright = _turned(rgb, turn)
    enlarged = upright.width < width or upright.height < height
    return np.asarray(_middle(upright, width, height)), enlarged


def _decode(
    image: Image.Image, needed: tuple[int, int], max_pixels: int
) -> tuple[Image.Image, Image.Transpose | None]:
    """The image in RGB, at least as large as ``needed``, and the turn that makes it upright."""
    size = image.size
    image.draft(None, needed)  # does something for a JPEG alone
    if image.width * image.height > max_pixels:
        raise DecodeError(too_large(size, max_pixels))
    profile = colour_profile(image)
    image.load()  # here, because asking a PNG for its EXIF would decode it and hide an error
    turn = orientation(image)
    return _to_rgb(image, profile), turn


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(image.width / width, image.height / height)
    # Clamped, because a rounded product may be larger than the image.
    left = max(image.width - width * scale, 0) / 2
    top = max(image.height - height * scale, 0) / 2
    box = (left, top, image.width - left, image.height - top)
    return image.resize((width, height), Image.Resampling.BICUBIC, box=box)


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


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

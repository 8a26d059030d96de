"""The colours of an image as sRGB, which is what models are trained on and screens show.

What an image says of its colours is followed in the order of PNG's specification: cICP, an ICC
profile, sRGB, then gAMA and cHRM; for photographs also Exif's mark of Adobe RGB. What is damaged,
or does not fit the image, is ignored.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms

Primaries = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue (CIE 1931)."""

_D65, _D50_XYZ = (0.3127, 0.3290), np.array([0.9642, 1.0, 0.8249])
_SRGB: Primaries = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_ADOBE_RGB: Primaries = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_ADOBE_GAMMA = 2.19921875
_PRIMARIES_BY_CODE: dict[int, Primaries] = {  # ITU-T H.273, table 2
    1: _SRGB,
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_SRGB_GAMMA, _NEAR = 1 / 2.2, 0.01
_CURVE_POINTS = 1024
_SAME_LEVELS = 2
"""A profile that moves no colour by more levels is taken for sRGB, as most are."""

_MODE_BY_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

Curve = Callable[[np.ndarray], np.ndarray]
"""From encoded values to linear light, both 0..1."""


def _srgb_curve(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _bt709_curve(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0.081, x / 4.5, ((x + 0.099) / 1.099) ** (1 / 0.45))


def _power(gamma: float) -> Curve:
    return lambda x: x**gamma


_CURVES_BY_CODE: dict[int, Curve] = {  # table 3; PQ and HLG (16, 18) are brighter than sRGB can be
    **dict.fromkeys((1, 6, 14, 15), _bt709_curve),
    4: _power(2.2),
    5: _power(2.8),
    8: _power(1.0),
    13: _srgb_curve,
}


def colour_profile(image: Image.Image) -> bytes | None:
    """The ICC profile of an image that is not loaded yet; None where it is sRGB or says nothing."""
    try:
        if code_points := _cicp(image):
            primaries, transfer = code_points
            return matrix_profile(_PRIMARIES_BY_CODE[primaries], _CURVES_BY_CODE[transfer])
        if profile := image.info.get("icc_profile"):
            return bytes(profile)
        if "srgb" in image.info:
            return None
        if "gamma" in image.info or "chromaticity" in image.info:
            return _png_profile(image.info)
        if image.format in ("JPEG", "MPO", "TIFF") and _is_adobe_rgb(image):
            return matrix_profile(_ADOBE_RGB, _power(_ADOBE_GAMMA))
    except Exception:  # what an image says of its colours may be damaged in any way
        return None
    return None


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image, without its transparency, in mode RGB. ``profile`` is its ICC profile."""
    if image.mode == "LAB":
        return _from_lab().apply(image)
    if profile is not None:
        for mode in _modes(image):
            transform = _transform(profile, mode)
            if transform is not None:
                return transform.apply(image.convert(mode))
    return image.convert("RGB")


def _modes(image: Image.Image) -> tuple[str, ...]:
    """The modes in which a profile may describe an image; a grey one may have a profile of RGB."""
    if image.mode == "CMYK":
        return ("CMYK",)
    return ("L", "RGB") if image.mode in ("1", "L") else ("RGB",)


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From colours of a profile to sRGB; None where it is damaged, of another mode, or sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = str(getattr(source.profile, "xcolor_space", "")).strip()
        if _MODE_BY_SPACE.get(space) != mode:
            return None
        transform = _to_srgb_from(source, mode)
        if mode != "CMYK":
            colours = _all_colours(mode)
            before, after = np.asarray(colours.convert("RGB")), np.asarray(transform.apply(colours))
            if np.abs(before.astype(int) - after).max() <= _SAME_LEVELS:
                return None
    except (OSError, ValueError, ImageCms.PyCMSError):  # damaged
        return None
    return transform


@lru_cache(maxsize=1)
def _from_lab() -> ImageCms.ImageCmsTransform:
    return _to_srgb_from(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _to_srgb_from(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.ImageCmsTransform(
        source,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        mode,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        # LittleCMS's cache of one pixel is not safe with threads that share a transform.
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.NOCACHE,
    )


def _all_colours(mode: str) -> Image.Image:
    """Colours evenly spread over a mode."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return Image.fromarray(grid.reshape(9, -1, 3))


def _png_profile(info: dict[Any, Any]) -> bytes | None:
    """From PNG's gAMA and cHRM."""
    gamma = info.get("gamma", _SRGB_GAMMA)
    primaries = info.get("chromaticity", _SRGB)
    # 1/2.2 is what programs write for the curve of sRGB.
    curve = _srgb_curve if abs(gamma - _SRGB_GAMMA) < _NEAR else _power(1 / gamma)
    if curve is _srgb_curve and np.allclose(primaries, _SRGB, atol=_NEAR / 2):
        return None
    return matrix_profile(primaries, curve)


def _cicp(image: Image.Image) -> tuple[int, int] | None:
    """Primaries and transfer of a PNG's cICP, which Pillow does not read."""
    file = getattr(image, "fp", None)
    if image.format != "PNG" or file is None:
        return None
    place = file.tell()
    try:
        file.seek(8)
        while (header := file.read(8))[4:] not in (b"IDAT", b"IEND", b""):
            length = int.from_bytes(header[:4], "big")
            if header[4:] == b"cICP":
                primaries, transfer = file.read(2)
                return primaries, transfer
            file.seek(length + 4, io.SEEK_CUR)
    finally:
        file.seek(place)
    return None


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether a camera marked it so: "R03" in Exif's interoperability index."""
    return image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03"


def matrix_profile(primaries: Primaries, curve: Curve) -> bytes:
    """An ICC profile (version 2.4) of RGB with these primaries and one curve for each channel."""
    white, *colours = (
        np.array([x / y, 1, (1 - x - y) / y])
        for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    )
    of_white = np.linalg.solve(np.stack(colours, axis=1), white)
    to_xyz = np.stack(colours, axis=1) * of_white
    cones = (_BRADFORD @ _D50_XYZ) / (_BRADFORD @ white)
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ to_xyz
    points = np.rint(65535 * curve(np.linspace(0, 1, _CURVE_POINTS))).astype(">u2")
    trc = b"curv" + bytes(4) + struct.pack(">I", len(points)) + points.tobytes()
    tags = {b"wtpt": _xyz(_D50_XYZ)}
    for letter, column in zip((b"r", b"g", b"b"), adapted.T, strict=True):
        tags |= {letter + b"XYZ": _xyz(column), letter + b"TRC": trc}
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    header = struct.pack(
        ">I4x4s4s4s4s12x4s28x12s48x",
        start + len(data),
        b"\x02\x40\0\0",
        b"mntr",
        b"RGB ",
        b"XYZ ",
        b"acsp",
        _xyz(_D50_XYZ)[8:],
    )
    return header + table + data


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *np.rint(values * 65536).astype(int))

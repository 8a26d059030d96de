"""``training.data.colour``: what an image says of its colours is followed, to sRGB."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms
from support.nasty_images import display_p3, encoded, plain, png_with_chunks

from training.data.colour import matrix_profile
from training.data.decode import read_versions

P3_RED = (234, 51, 35)
ADOBE = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
P3_CHRM = b"".join(
    round(100_000 * v).to_bytes(4, "big")
    for v in (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
)


def read(content: bytes) -> list[int]:
    """The colour in the middle of an image, as training sees it."""
    array = read_versions(io.BytesIO(content), 64)[0]
    return array[array.shape[0] // 2, array.shape[1] // 2].tolist()


@pytest.mark.cases("D9")
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_display_p3_becomes_srgb(kind: str) -> None:
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(kind, {})
    content = encoded(plain(colour=P3_RED), kind, icc_profile=display_p3(), **options)
    assert read(content) == pytest.approx([255, 0, 0], abs=0 if kind == "PNG" else 4)


@pytest.mark.cases("D9")
@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_palettes_and_transparent_images_have_profiles_too(mode: str) -> None:
    image = plain(colour=P3_RED)
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    assert read(encoded(image, icc_profile=display_p3())) == [255, 0, 0]


@pytest.mark.cases("D9")
@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_grey_image_follows_the_curve_of_its_profile(mode: str) -> None:
    linear = matrix_profile(ADOBE, lambda x: x)
    image = {
        "L": lambda: plain("L", 55),
        "LA": lambda: plain("LA", (55, 255)),
        "I;16": lambda: Image.fromarray(np.full((32, 48), 55 * 257, np.uint16)),
    }[mode]()
    assert read(encoded(image, icc_profile=linear)) == pytest.approx([128] * 3, abs=1)


def press_profile() -> bytes:
    """An ICC profile of CMYK whose inks are white paper, cyan as in print, and black otherwise."""
    white, cyan, black = bytes([255, 128, 128]), bytes([140, 91, 78]), bytes([0, 128, 128])
    grid = white + black * 7 + cyan + black * 7  # the last ink, K, changes first
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + grid + ramp * 3
    header = struct.pack(
        ">I4x4s4s4s4s12x4s28x12s48x",
        128 + 4 + 12 + len(table),
        b"\x02\x40\0\0",
        b"prtr",
        b"CMYK",
        b"Lab ",
        b"acsp",
        struct.pack(">3i", 63190, 65536, 54061),
    )
    return header + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.cases("D9")
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_profile_of_cmyk_is_followed(kind: str) -> None:
    image = plain("CMYK", (255, 0, 0, 0))
    assert read(encoded(image, kind)) == pytest.approx([0, 255, 255], abs=2)
    printed = read(encoded(image, kind, icc_profile=press_profile()))
    assert printed == pytest.approx([0, 146, 214], abs=14)


@pytest.mark.cases("D9")
def test_a_profile_of_another_mode_is_ignored() -> None:
    content = encoded(plain("CMYK", (0, 255, 255, 0)), "TIFF", icc_profile=display_p3())
    assert read(content) == pytest.approx([255, 0, 0], abs=2)
    content = encoded(plain(colour=P3_RED), icc_profile=press_profile())
    assert read(content) == list(P3_RED)


@pytest.mark.cases("D9")
@pytest.mark.parametrize(
    "profile", [b"", b"none", display_p3()[:200], display_p3()[:128] + bytes(6348)]
)
def test_a_damaged_profile_is_ignored(profile: bytes) -> None:
    assert read(encoded(plain(colour=P3_RED), icc_profile=profile)) == list(P3_RED)


@pytest.mark.cases("D9")
def test_srgb_changes_no_value() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    without = read_versions(io.BytesIO(encoded(image)), 64)[0]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with_profile = read_versions(io.BytesIO(encoded(image, icc_profile=profile)), 64)[0]
    assert np.array_equal(without, with_profile)


@pytest.mark.cases("D9")
@pytest.mark.parametrize(
    ("colour", "chunks", "seen"),
    [
        (P3_RED, [(b"cICP", bytes([12, 13, 0, 1]))], (255, 0, 0)),
        (P3_RED, [(b"cICP", bytes([1, 13, 0, 1]))], P3_RED),
        (P3_RED, [(b"cICP", bytes([9, 16, 0, 1]))], P3_RED),  # PQ cannot be shown
        (P3_RED, [(b"cICP", bytes([200, 13, 0, 1]))], P3_RED),
        (P3_RED, [(b"cICP", b"\x0c")], P3_RED),
        (P3_RED, [(b"gAMA", (45455).to_bytes(4, "big")), (b"cHRM", P3_CHRM)], (255, 0, 0)),
        (P3_RED, [(b"sRGB", b"\0"), (b"gAMA", (45455).to_bytes(4, "big")), (b"cHRM", P3_CHRM)],
         P3_RED),
        (P3_RED, [(b"gAMA", (45455).to_bytes(4, "big"))], P3_RED),
        (P3_RED, [(b"gAMA", bytes(4))], P3_RED),
        (P3_RED, [(b"cHRM", bytes(32))], P3_RED),
        ((55, 55, 55), [(b"gAMA", (100_000).to_bytes(4, "big"))], (128, 128, 128)),
    ],
)  # fmt: skip
def test_what_a_png_says_of_its_colours_is_followed(
    colour: tuple[int, int, int], chunks: list[tuple[bytes, bytes]], seen: tuple[int, int, int]
) -> None:
    content = png_with_chunks(plain(colour=colour), *chunks)
    assert read(content) == pytest.approx(list(seen), abs=1)


def test_a_camera_marks_adobe_rgb_in_exif() -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R03"}
    content = encoded(plain(colour=(144, 255, 60)), "JPEG", exif=exif, quality=100)
    assert read(content) == pytest.approx([0, 255, 0], abs=30)
    assert read(encoded(plain(colour=(144, 255, 60)), "JPEG", quality=100))[0] > 130


def test_threads_share_a_profile() -> None:
    contents = [encoded(plain(colour=(i * 8, 51, 35)), icc_profile=display_p3()) for i in range(30)]
    alone = [read(content) for content in contents]
    with ThreadPoolExecutor(8) as readers:
        assert list(readers.map(read, contents * 5)) == alone * 5

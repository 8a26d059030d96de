"""``training.data.decode``: any image file, upright and in RGB, at the sizes of training."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from training.data.decode import (
    DecodeError,
    ImageFacts,
    probe,
    read_middle,
    read_versions,
    trained_size,
)

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def halves(mode: str, left: Any, right: Any, size: tuple[int, int] = (64, 32)) -> Image.Image:
    image = Image.new(mode, size, left)
    image.paste(right, (size[0] // 2, 0, size[0], size[1]))
    return image


def ends(array: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The colours of the first and the last column's middle."""
    middle = array[array.shape[0] // 2]
    return tuple(int(v) for v in middle[0]), tuple(int(v) for v in middle[-1])


def photo(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray(
        (255 * np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x * y)], axis=-1)).astype(np.uint8)
    )


@pytest.mark.parametrize(
    ("size", "resized", "cropped"),
    [
        ((100, 60), (96, 48), None),  # within the area: floored, not enlarged
        ((256, 256), (256, 256), None),
        ((512, 128), (512, 128), None),  # as large as the area
        ((640, 200), (448, 128), None),  # larger, yet short on one side
        ((800, 400), (352, 176), (256, 256)),
        ((400, 800), (176, 352), (256, 256)),
        ((500, 500), (256, 256), None),  # a square is its own middle
        ((40, 8), (80, 16), None),  # enlarged to a token
    ],
)
def test_images_get_the_sizes_of_the_recipe(
    size: tuple[int, int], resized: tuple[int, int], cropped: tuple[int, int] | None
) -> None:
    first, second = read_versions(encoded(photo(*size)), 256)
    assert first.shape == (resized[1], resized[0], 3)
    assert first.dtype == np.uint8
    assert (None if second is None else second.shape) == (
        None if cropped is None else (cropped[1], cropped[0], 3)
    )


def test_the_crop_is_the_middle_of_the_image() -> None:
    image = halves("RGB", RED, BLUE, (300, 100))
    image.paste(WHITE, (100, 0, 200, 100))
    _, cropped = read_versions(encoded(image), 64)
    assert cropped is not None
    inner = cropped[:, 2:-2]
    assert inner.min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_are_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(photo(400, 160), kind, exif=exif)
    resized, cropped = read_versions(file, 64)
    upright, _ = read_versions(encoded(ImageOps.exif_transpose(Image.open(file))), 64)
    assert resized.shape == upright.shape
    assert np.abs(resized.astype(int) - upright).max() <= 8
    assert cropped is not None
    assert cropped.shape == (64, 64, 3)


def test_an_image_with_damaged_exif_is_read() -> None:
    file = encoded(photo(64, 32), "PNG", exif=b"Exif\x00\x00no TIFF header")
    with pytest.raises(SyntaxError):
        Image.open(file).getexif()
    file.seek(0)
    assert read_versions(file, 64)[0].shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("image", "kind", "options"),
    [
        (halves("RGBA", (255, 0, 0, 255), (0, 255, 0, 0)), "PNG", {}),
        (
            halves("RGBA", (255, 0, 0, 255), (0, 255, 0, 0)),
            "WEBP",
            {"lossless": True, "exact": True},
        ),
        (halves("RGBA", (255, 0, 0, 255), (0, 255, 0, 0)), "GIF", {}),
        (halves("RGB", RED, (0, 255, 0)), "PNG", {"transparency": (0, 255, 0)}),
        (halves("RGB", RED, (0, 255, 0)).quantize(4), "PNG", {"transparency": 1}),
    ],
    ids=["rgba", "webp", "gif", "keyed", "palette"],
)
def test_transparent_pixels_are_white(
    image: Image.Image, kind: str, options: dict[str, Any]
) -> None:
    if image.mode == "P":
        options = {"transparency": image.getpixel((63, 0))}
    assert ends(read_versions(encoded(image, kind, **options), 64)[0]) == (RED, WHITE)


def test_half_transparent_grey_is_mixed_with_white() -> None:
    first, last = ends(read_versions(encoded(halves("LA", (0, 255), (0, 128))), 64)[0])
    assert first == BLACK
    assert last == pytest.approx((127, 127, 127), abs=1)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)), "TIFF"),
        (halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)), "JPEG"),
        (halves("RGB", RED, BLUE).quantize(4), "PNG"),
        (halves("RGB", RED, BLUE), "BMP"),
        (halves("RGB", RED, BLUE), "JPEG2000"),
        (halves("RGB", RED, BLUE), "PPM"),
        (halves("RGB", RED, BLUE), "TGA"),
        (halves("RGB", RED, BLUE), "MPO"),
    ],
    ids=["cmyk", "cmyk-jpeg", "palette", "bmp", "jpeg2000", "ppm", "tga", "mpo"],
)
def test_colours_survive_other_modes_and_formats(image: Image.Image, kind: str) -> None:
    first, last = ends(read_versions(encoded(image, kind), 64)[0])
    assert first == pytest.approx(RED, abs=3)
    assert last == pytest.approx(BLUE, abs=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_and_not_clipped(kind: str) -> None:
    values = np.full((32, 64), 65535 // 5, np.uint16)
    values[:, 32:] = 65535
    assert ends(read_versions(encoded(Image.fromarray(values), kind), 64)[0]) == (
        (51, 51, 51),
        WHITE,
    )


def test_float_images_are_read_from_0_to_1_and_refused_beyond() -> None:
    values = np.zeros((32, 64), np.float32)
    values[:, 32:] = 1
    assert ends(read_versions(encoded(Image.fromarray(values), "TIFF"), 64)[0]) == (BLACK, WHITE)
    with pytest.raises(DecodeError, match=r"from 0\.0 to 300\.0, expected 0 to 1"):
        read_versions(encoded(Image.fromarray(300 * values), "TIFF"), 64)


def test_black_and_white_images_are_read() -> None:
    assert ends(read_versions(encoded(halves("1", 0, 1)), 64)[0]) == (BLACK, WHITE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, BLUE, WHITE)]
    first, _ = ends(
        read_versions(
            encoded(
                frames[0],
                kind,
                save_all=True,
                append_images=frames[1:],
                **({"lossless": True} if kind == "WEBP" else {}),
            ),
            64,
        )[0]
    )
    assert first == RED


@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_pillows_limit_is_lifted_while_an_image_is_read(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    file = encoded(photo(400, 200), kind)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(file)
    for read in (lambda: read_versions(file, 64), lambda: read_middle(file, 64, 64)):
        file.seek(0)
        read()
        assert Image.MAX_IMAGE_PIXELS == 1000


def test_threads_that_read_together_leave_pillows_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    content = encoded(photo(200, 100), "TIFF").getvalue()
    with ThreadPoolExecutor(8) as readers:
        list(readers.map(lambda _: read_versions(io.BytesIO(content), 64), range(100)))
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_an_image_that_would_not_fit_in_memory_is_refused() -> None:
    limit = 400 * 400
    drafted, _ = read_versions(encoded(photo(900, 800), "JPEG"), 64, max_pixels=limit)
    assert drafted.shape == (48, 64, 3), "a JPEG is decoded at an eighth"
    message = "900 × 800 pixels; images of up to 160,000 pixels in total can be read"
    with pytest.raises(DecodeError, match=message):
        read_versions(encoded(photo(900, 800)), 64, max_pixels=limit)
    with pytest.raises(DecodeError, match=message):
        read_middle(encoded(photo(900, 800)), 64, 64, max_pixels=limit)


def test_decoding_a_jpeg_at_a_fraction_changes_no_pixel_visibly() -> None:
    image = photo(1600, 1200)
    for drafted, whole in zip(
        read_versions(encoded(image, "JPEG", quality=95), 128),
        read_versions(encoded(image), 128),
        strict=True,
    ):
        assert drafted is not None
        assert whole is not None
        assert np.abs(drafted.astype(int) - whole).max() <= 4


@pytest.mark.parametrize("cut", [0, 10, 600])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_files_raise(kind: str, cut: int) -> None:
    content = encoded(photo(200, 200), kind).getvalue()
    with pytest.raises((OSError, SyntaxError)):
        read_versions(io.BytesIO(content[:cut]), 64)


def test_formats_that_start_programs_are_refused() -> None:
    with pytest.raises(UnidentifiedImageError):
        read_versions(io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), 64)


@pytest.mark.cases("D3")
@pytest.mark.parametrize(
    ("size", "kept", "enlarged"),
    [
        ((1, 1), (16, 16), (256, 256)),
        ((28, 28), (16, 16), (256, 256)),
        ((32, 32), (32, 32), (256, 256)),
        ((100, 50), (96, 48), (352, 176)),
        ((255, 257), (240, 256), (240, 256)),
        ((300, 20), (288, 16), (976, 64)),
        ((256, 256), (256, 256), (256, 256)),
        ((800, 400), (352, 176), (352, 176)),
    ],
)
def test_small_images_are_enlarged_on_demand_alone(
    size: tuple[int, int], kept: tuple[int, int], enlarged: tuple[int, int]
) -> None:
    for enlarge, expected in ((False, kept), (True, enlarged)):
        trained = trained_size(*size, 256, enlarge)
        assert (trained.width, trained.height) == expected
        resized, _ = read_versions(encoded(photo(*size)), 256, enlarge=enlarge)
        assert resized.shape == (expected[1], expected[0], 3)
    assert trained_size(*size, 256, True).tokens <= 256


@pytest.mark.parametrize("read", [probe, lambda path: read_versions(path, 64)])
def test_only_regular_files_are_opened(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    """A pipe that nobody writes to would be waited for without end."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "link.png", "device.png"):
        if read is probe:
            assert probe(tmp_path / name).reason == "not a regular file"
        else:
            with pytest.raises(DecodeError, match="not a regular file"):
                read(tmp_path / name)


def test_the_facts_of_an_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(400, 160).save(tmp_path / "a.png", "JPEG", exif=exif)
    facts = probe(tmp_path / "a.png")
    assert facts == ImageFacts(160, 400, "RGB", "JPEG", 1, None)
    assert probe(tmp_path / "none.png").reason is not None


def test_no_pixel_is_decoded_for_the_facts_of_an_intact_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF"):
        facts = probe(encoded(photo(64, 32), kind))
        assert (facts.width, facts.height, facts.reason) == (64, 32, None)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.95])
def test_the_facts_of_a_file_that_is_cut_short_say_so(kind: str, part: float) -> None:
    content = encoded(photo(200, 200), kind).getvalue()
    cut = io.BytesIO(content[: int(len(content) * part)])
    facts = probe(cut)
    try:
        read_versions(io.BytesIO(cut.getvalue()), 64)
    except (OSError, SyntaxError, ValueError):
        assert facts.reason is not None
    else:
        assert facts.reason is None


def test_bytes_after_the_end_of_a_photo_are_no_damage() -> None:
    content = encoded(photo(200, 200), "JPEG").getvalue() + bytes(100_000)
    assert probe(io.BytesIO(content)).reason is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty: 0 bytes"),
        (bytes(999), "only zero bytes"),
        (b"\xef\xbb\xbf<!doctype HTML>", "a web page"),
        (b'<?xml version="1.0"?><svg>', "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\xff\x0a" + bytes(99), "JXL cannot be read here; python -m pip install"),
        (b"words", "not an image by its content"),
    ],
)
def test_what_is_no_image_is_called_what_it_is(
    content: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(Image.OPEN, "JXL", raising=False)
    assert reason in str(probe(io.BytesIO(content)).reason)
    with pytest.raises(UnidentifiedImageError, match=reason):
        read_versions(io.BytesIO(content), 64)

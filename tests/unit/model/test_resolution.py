"""Sizes: the training images' rule, the named ratios, snapping."""

import json
from pathlib import Path

import pytest

from comfyui_fitv2 import ASPECT_RATIOS, Resolution, flexible_resize, for_ratio, snap
from comfyui_fitv2.resolution import describe_size, parse_size, parse_sizes, trained_size

SIZES = json.loads((Path(__file__).parents[2] / "golden" / "sizes.json").read_text())


@pytest.mark.parametrize(("width", "height", "image_size", "new_width", "new_height"), SIZES)
def test_flexible_resizing_equals_the_published_code(
    width: int, height: int, image_size: int, new_width: int, new_height: int
) -> None:
    assert flexible_resize(width, height, image_size) == Resolution(new_width, new_height)


@pytest.mark.parametrize("width", [1, 15, 16, 17, 255, 256, 4097, 30000])
@pytest.mark.parametrize("height", [1, 16, 31, 1000, 65536])
@pytest.mark.parametrize("image_size", [256, 512])
def test_any_image_fits_the_budget(width: int, height: int, image_size: int) -> None:
    resized = flexible_resize(width, height, image_size)
    assert resized.width * resized.height <= image_size**2
    if min(width, height) >= 16:  # shorter sides get their first token
        assert resized.width <= width
        assert resized.height <= height


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
@pytest.mark.parametrize("tokens", [64, 256, 1024])
def test_a_ratio_uses_its_budget_and_no_more(ratio: str, tokens: int) -> None:
    resolution = for_ratio(ratio, tokens)
    width, height = ASPECT_RATIOS[ratio]
    assert 0.7 * tokens <= resolution.tokens <= tokens
    assert resolution.width / resolution.height == pytest.approx(width / height, rel=0.2)


def test_portraits_are_landscapes_turned() -> None:
    for ratio in ASPECT_RATIOS:
        turned = ":".join(reversed(ratio.split(":")))
        assert for_ratio(ratio, 256).grid == for_ratio(turned, 256).grid[::-1]


def test_a_square_of_256_tokens_is_256_pixels() -> None:
    assert for_ratio("1:1", 256) == Resolution(256, 256)


def test_snapping_takes_the_nearest_whole_tokens() -> None:
    assert snap(500, 7) == Resolution(496, 16)
    assert snap(505, 300) == Resolution(512, 304)


@pytest.mark.parametrize(
    ("size", "report"),
    [
        (
            Resolution(432, 144),
            "432 × 144 px · 27 × 9 = 243 tokens · 0.95× trained tokens (256)"
            " · 1.69× trained side (16)",
        ),
        (
            Resolution(512, 512),
            "512 × 512 px · 32 × 32 = 1024 tokens · 4.00× trained tokens (256), beyond"
            " · 2.00× trained side (16)",
        ),
        (
            Resolution(4096, 2048),
            "4096 × 2048 px · 256 × 128 = 32768 tokens · 128.00× trained tokens (256), far beyond"
            " · 16.00× trained side (16)",
        ),
    ],
)
def test_the_report_tells_size_tokens_and_extrapolation(size: Resolution, report: str) -> None:
    assert size.report(256) == report


def test_the_trained_size_is_told_in_tokens_and_pixels() -> None:
    assert trained_size(16) == "256 tokens (256 × 256 px, 16 tokens a side)"
    assert trained_size(32) == "1024 tokens (512 × 512 px, 32 tokens a side)"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256x192", (256, 192)),
        (" 320 X 160 ", (320, 160)),
        ("320×160", (320, 160)),
        ("250x1", (256, 16)),  # to whole tokens
        ("3:2", (304, 208)),
        ("2:3", (208, 304)),
        ("3:2 @ 576", (464, 304)),
        ("3:2@576", (464, 304)),
        (" 1:1 @ 1024 ", (512, 512)),
        ("256*192", (256, 192)),
        ("16384x16", (16384, 16)),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text, 256) == Resolution(*size)


def test_a_list_of_sizes_keeps_what_was_written() -> None:
    sizes = parse_sizes("1:1, 3:2 @ 576;64x32\n1:1", 256)
    assert sizes == {
        "1:1": Resolution(256, 256),
        "3:2 @ 576": Resolution(464, 304),
        "64x32": Resolution(64, 32),
    }
    assert list(sizes) == ["1:1", "3:2 @ 576", "64x32"]


@pytest.mark.cases("N3")
@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        ("5:4", (272, 224)),
        ("4:5", (224, 272)),
        ("16:10", (320, 192)),
        ("10:16", (192, 320)),
        ("2.39:1", (384, 160)),
        ("1.85:1", (336, 176)),
        ("1:3.5", (128, 464)),
        ("50:40", (272, 224)),
        ("7:1", (672, 96)),
        ("1,85:1", (336, 176)),
    ],
)
def test_any_ratio_gives_a_size(ratio: str, size: tuple[int, int]) -> None:
    assert for_ratio(ratio, 256) == Resolution(*size)
    assert parse_size(ratio, 256) == Resolution(*size)
    assert parse_size(f"{ratio} @ 256", 1) == Resolution(*size)


@pytest.mark.cases("N1")
@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("３：２", "3:2"),
        ("3∶2 ＠ ５７６", "3:2 @ 576"),
        ("２５６×１９２", "256x192"),
        ("256＊192", "256x192"),
        ("256ｘ192", "256x192"),
        ("256х192", "256x192"),  # a Cyrillic letter
        ("\u3000256\xa0×\u202f192", "256x192"),
        ("٣:٢", "3:2"),
        ("१६：९", "16:9"),
        ("2．39：1", "2.39:1"),
    ],
)
def test_a_size_may_have_the_signs_of_any_keyboard(text: str, plain: str) -> None:
    assert parse_size(text, 256) == parse_size(plain, 256)


@pytest.mark.cases("N1")
@pytest.mark.parametrize("separator", list("；，、؛،;﹔\n\u2028"))
def test_sizes_are_separated_by_the_signs_of_any_keyboard(separator: str) -> None:
    assert list(parse_sizes(f"1:1{separator}64×32{separator}", 256)) == ["1:1", "64×32"]


def test_any_size_can_be_described() -> None:
    assert describe_size(432, 144) == "432 × 144 px · 243 tokens"
    assert describe_size(33, 15) == "33 × 15 px · 0 tokens"


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_a_ratio_is_read_as_the_named_one(ratio: str) -> None:
    assert parse_size(ratio, 300) == for_ratio(ratio, 300)
    assert parse_size(f"{ratio} @ 300", 256) == for_ratio(ratio, 300)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "big",
        "256",
        "256x",
        "x192",
        "-256x192",
        "256x192x1",
        "25.6x19",
        "3:2 @",
        "3:2 @ many",
        "@ 256",
        "256x192 @ 300",
        "3/2",
    ],
)
def test_what_is_no_size_is_refused_with_the_ways_to_write_one(text: str) -> None:
    with pytest.raises(
        ValueError,
        match=r'is not a size. Write pixels as "256x192", a ratio as "3:2", or .*"3:2 @ 576"',
    ):
        parse_size(text, 256)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Resolution(250, 256), "256 × 256 px is the nearest"),
        (lambda: for_ratio("tall", 256), "'tall' is not an aspect ratio.*such as 3:2"),
        (lambda: for_ratio("0:1", 256), "'0:1' is not an aspect ratio.*above 0"),
        (lambda: for_ratio("3:1", 2), "2 tokens are too few for 3:1: it needs 3"),
        (lambda: parse_size("1:0.0", 256), "'1:0.0' is not an aspect ratio"),
        (lambda: parse_size("1:999", 256), "256 tokens are too few for 1:999: it needs 999"),
        (lambda: parse_size("0x100", 256), "0 × 100 pixels: sides are from 1 to 16384"),
        (lambda: parse_size("99999x64", 256), "99999 × 64 pixels: sides are from 1 to 16384"),
        (lambda: parse_size("1:1 @ 99999999", 256), "sides are from 1 to 16384 pixels"),
        (lambda: parse_size("3:1 @ 2", 256), "2 tokens are too few for 3:1"),
        (lambda: parse_size("1:1 @ 0", 256), "0 tokens are too few for 1:1"),
        (lambda: parse_sizes(" , ", 256), "No size was given"),
        (lambda: flexible_resize(0, 10, 256), "not 0 × 10"),
    ],
)
def test_bad_sizes_are_explained(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

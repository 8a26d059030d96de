"""The small pictures of all classes in one file, and what is no such file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sheets.class_sheet import Layout, SheetMaker, layout_for, read, sheet_path

COLOURS = [(220, 30, 30), (30, 180, 60), (40, 60, 220)]


def sheet_of(path: Path, sizes: list[tuple[int, int]]) -> Path:
    maker = SheetMaker(layout_for(sizes))
    for i, size in enumerate(sizes):
        maker.put(i, Image.new("RGB", size, COLOURS[i % 3]))
    path.write_bytes(maker.encode())
    return path


def test_a_sheet_is_beside_its_checkpoint() -> None:
    assert sheet_path(Path("a/mine.v2.safetensors")) == Path("a/mine.v2.classes.webp")


def test_every_class_is_in_its_place_with_its_own_proportions(tmp_path: Path) -> None:
    sizes = [(300, 200), (200, 200), (300, 200), (100, 200), (400, 160)]
    sheet = read(sheet_of(tmp_path / "a.classes.webp", sizes))
    assert sheet.layout == Layout(classes=5, columns=2, tile_width=72, tile_height=48)
    with Image.open(tmp_path / "a.classes.webp") as opened:
        image = opened.convert("RGBA")
    assert image.size == (144, 144)
    for i, (width, height) in enumerate(sizes):
        left, top = i % 2 * 72, i // 2 * 48
        tile = image.crop((left, top, left + 72, top + 48))
        assert tile.getpixel((36, 24))[:3] == pytest.approx(COLOURS[i % 3], abs=12)
        box = tile.getchannel("A").point(lambda a: 255 * (a > 128)).getbbox()
        assert box is not None
        assert (box[2] - box[0]) / (box[3] - box[1]) == pytest.approx(width / height, rel=0.05)


@pytest.mark.parametrize(
    ("count", "size", "columns", "tile"),
    [
        (1, (256, 256), 1, (72, 72)),
        (256, (304, 208), 14, (72, 49)),
        (1000, (256, 256), 32, (72, 72)),
        (10, (64, 1024), 4, (72, 108)),
        (10, (1024, 64), 3, (72, 36)),
    ],
)
def test_a_sheet_is_about_square(count: int, size, columns: int, tile) -> None:
    layout = layout_for([size] * count)
    assert (layout.columns, (layout.tile_width, layout.tile_height)) == (columns, tile)


def test_what_webp_cannot_hold_is_refused_with_the_size() -> None:
    with pytest.raises(ValueError, match=r"60000 classes need a sheet of 17640 × "):
        layout_for([(256, 256)] * 60000)
    with pytest.raises(ValueError, match="at least one class"):
        layout_for([])


def with_layout(path: Path, description: object, size=(72, 48)) -> Path:
    exif = Image.Exif()
    if description is not None:
        exif[270] = description if isinstance(description, str) else json.dumps(description)
    Image.new("RGB", size).save(path, "WEBP", exif=exif)
    return path


GOOD = {"classes": 1, "columns": 1, "tile_width": 72, "tile_height": 48}


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "it has no layout"),
        ("{{", "not a class sheet"),
        ("[" * 100_000, "nested too deeply"),
        ([], "it has no layout"),
        ({"fitv2_class_sheet": 3}, "it has no layout"),
        ({"fitv2_class_sheet": {}}, "not a class sheet"),
        ({"fitv2_class_sheet": {**GOOD, "more": 1}}, "not a class sheet"),
        ({"fitv2_class_sheet": {**GOOD, "columns": 0}}, "columns must be a whole number above 0"),
        ({"fitv2_class_sheet": {**GOOD, "columns": True}}, "columns must be a whole number"),
        ({"fitv2_class_sheet": {**GOOD, "classes": 2.0}}, "classes must be a whole number"),
        ({"fitv2_class_sheet": {**GOOD, "classes": 2}}, "72 × 48 pixels that says it has 72 × 96"),
    ],
)
def test_a_file_that_is_no_sheet_is_refused(tmp_path: Path, description, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(with_layout(tmp_path / "a.classes.webp", description))


def test_other_formats_and_huge_files_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    file = tmp_path / "a.classes.webp"
    Image.new("RGB", (72, 48)).save(file, "PNG")
    with pytest.raises(ValueError, match="not a class sheet"):
        read(file)
    file.write_bytes(b"RIFF" + bytes(17_000_000))
    with pytest.raises(ValueError, match="at most 16 MB"):
        read(file)
    with pytest.raises(OSError, match="none"):
        read(tmp_path / "none.classes.webp")

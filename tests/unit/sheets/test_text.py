"""Names of any script: in a font that has their letters, and never as boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from fontTools.ttLib.tables._c_m_a_p import CmapSubtable
from PIL import Image, ImageDraw
from support.made_font import make_font

from sheets import fonts, text
from sheets.contact_sheet import SheetCell, contact_sheet
from sheets.fonts import open_font
from sheets.text import Type, legible, wrap

CHINESE = "猫法国芬兰3 ·"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The only folder of fonts that the system has, empty at first."""
    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path])
    forget_fonts()
    yield tmp_path
    forget_fonts()


def forget_fonts() -> None:
    fonts.system_fonts.cache_clear()
    fonts.open_font.cache_clear()
    text._other_font.cache_clear()


def pixels(line: str, kind: Type) -> np.ndarray:
    canvas = Image.new("RGB", (400, 60))
    kind.write(ImageDraw.Draw(canvas), (10, 10), line, (255, 255, 255))
    return np.asarray(canvas)[..., 0]


@pytest.mark.cases("N4")
def test_a_font_of_the_system_writes_what_the_base_font_lacks(folder: Path) -> None:
    file = folder / "deep" / "Some Gothic.ttf"
    make_font(file, CHINESE)
    make_font(folder / "Latin.ttf", "abc")
    kind = Type(15)
    assert kind.writable("3 · 猫") == "3 · 猫"
    assert kind.runs("3 · 猫") == [("3 · 猫", open_font(str(file), 0, 15))]
    assert kind.getlength("3 · 猫") == 5 * 15
    assert pixels("3 · 猫", kind).any()


@pytest.mark.cases("N4")
def test_a_line_that_no_font_has_whole_is_written_in_several(folder: Path) -> None:
    make_font(folder / "Chinese.ttf", "猫")
    make_font(folder / "Thai.ttf", "กา")
    kind = Type(15)
    assert kind.writable("cat 猫 กา") == "cat 猫 กา"
    assert [part for part, _ in kind.runs("cat 猫 กา")] == ["cat ", "猫", " ", "กา"]
    assert kind.getlength("cat 猫 กา") == pytest.approx(
        kind.base.getlength("cat ") + kind.base.getlength(" ") + 3 * 15
    )


@pytest.mark.cases("N4")
@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("3 · 猫", "3"),
        ("3 · 猫 · ntk", "3 · ntk"),
        ("猫", r"\u732b"),
        ("a 猫 · b", r"a \u732b · b"),
        ("3 · Finland", "3 · Finland"),
        ("ลิง", r"\u0e25\u0e34\u0e07"),
        ("🦩", r"\U0001f9a9"),
        ("2 · 🦩", "2"),
        ("\ud800", r"\ud800"),
        ("\x00a\x1bb", "ab"),
    ],
)
def test_without_such_a_font_the_id_stays_or_an_escape(
    folder: Path, name: str, written: str
) -> None:
    assert Type(15).writable(name) == written


@pytest.mark.cases("N4")
def test_no_letter_becomes_a_box(folder: Path) -> None:
    """A font draws a box for a character that it lacks."""
    kind = Type(15)
    for name in ("猫", "हिन्दी", "한국", "ไทย", "🇫🇮", "\ue000", "שלום", "عربي", "é̀", "ß", "－"):
        assert fonts.coverage_of(kind.base).has_all(kind.writable(name)), name


@pytest.mark.cases("N4")
def test_without_raqm_scripts_that_need_it_are_not_written_wrongly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text, "shapes_scripts", lambda: False)
    assert Type(15).writable("4 · עברית") == "4"
    assert Type(15).writable("4 · Finland") == "4 · Finland"


@pytest.mark.skipif(not text.shapes_scripts(), reason="this Pillow has no raqm")
def test_a_size_after_a_word_written_to_the_left_keeps_its_order() -> None:
    kind = Type(15)
    if not fonts.coverage_of(kind.base).has_all("שלום"):
        pytest.skip("the font of this system has no Hebrew")
    assert [part for part, _ in kind.runs("שלום · 96 × 64")] == ["שלום", " · ", "96 × 64"]
    assert [part for part, _ in kind.runs("3 · שלום")] == ["3", " · ", "שלום"]


def test_a_name_as_wide_as_its_column_stays_on_one_line() -> None:
    kind = Type(15)
    for name in ("3 · Finland", "a b", "WWWW WWWW i", "iiii i"):
        assert wrap(name, kind, round(kind.getlength(name))) == [name]


def test_ascii_is_written_in_the_base_font_as_ever() -> None:
    for kind in (Type(15), Type(15, ())):
        canvas = Image.new("RGB", (400, 60))
        ImageDraw.Draw(canvas).text((200, 10), "A name: 3 x 4", "white", kind.base, anchor="ma")
        other = Image.new("RGB", (400, 60))
        kind.write(ImageDraw.Draw(other), (200, 10), "A name: 3 x 4", (255, 255, 255), "m")
        assert canvas.tobytes() == other.tobytes()
        assert kind.writable("A name: 3 x 4") == "A name: 3 x 4"


def test_a_name_is_legible_or_something_else_is_shown(folder: Path) -> None:
    make_font(folder / "Chinese.ttf", CHINESE)
    assert legible(" 猫 ", "class 3") == " 猫 "
    assert legible("犬", "class 3") == "class 3"


@pytest.mark.parametrize("damage", [0, 3, 40, 300])
def test_a_damaged_font_is_passed_over(folder: Path, damage: int) -> None:
    make_font(folder / "Good.ttf", CHINESE)
    content = (folder / "Good.ttf").read_bytes()
    (folder / "A broken one.ttf").write_bytes(content[:damage])
    assert Type(15).writable("猫") == "猫"


def test_a_font_of_last_resort_is_not_taken_for_one(folder: Path) -> None:
    """It has the same glyph for everything, by a table of format 13."""
    make_font(folder / "LastResort.ttf", "猫")
    font = TTFont(folder / "LastResort.ttf")
    table = CmapSubtable.newSubtable(13)
    table.platformID, table.platEncID, table.language = 3, 10, 0
    table.cmap = dict.fromkeys(range(32, 0x10000), "glyph0")
    font["cmap"].tables = [table]
    font.save(folder / "LastResort.ttf")
    assert Type(15).writable("1 · 猫") == "1"


def test_a_sheet_with_names_of_many_scripts_is_drawn(folder: Path) -> None:
    make_font(folder / "Chinese.ttf", CHINESE)
    cell = SheetCell(Image.new("RGB", (64, 64)), "猫 · 64 × 64 px")
    sheet = contact_sheet([[cell]], ["3 · 猫"], ["芬兰"], title="法国", cell_side=64)
    other = contact_sheet([[SheetCell(cell.image)]], ["3"], cell_side=64)
    assert sheet.width > other.width


def test_long_names_of_such_scripts_are_cut(folder: Path) -> None:
    make_font(folder / "Chinese.ttf", CHINESE)
    kind = Type(15)
    (line,) = wrap("猫" * 100, kind, 100)
    assert line.startswith("猫猫")
    assert kind.getlength(line) <= 101

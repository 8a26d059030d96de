"""Names of files that every system takes."""

from __future__ import annotations

import re

import pytest

from sheets.file_names import LONGEST, legal_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("79 · Finland · 3:2 @ 24 · 96 × 64 px", "79 - Finland - 3x2 @ 24 - 96 x 64 px"),
        ("ntk + pro2 · 1:1", "ntk + pro2 - 1x1"),
        ("a/b\\c|d", "a-b-c-d"),
        ("日本 · 国旗", "日本 - 国旗"),
        ("Côte d’Ivoire", "Côte d’Ivoire"),
        ("con", "_con"),
        ("LPT1.txt", "_LPT1.txt"),
        ("  ends with dots... ", "ends with dots"),
        ("%date:yyyy%\n\ttab", "datexyyyy tab"),
        ('<"?*">', "('x')"),
        ("???", "image"),
        ("", "image"),
    ],
)
def test_names_are_legal_and_can_be_read(text: str, name: str) -> None:
    assert legal_name(text) == name


def test_no_text_gives_an_illegal_name() -> None:
    everything = "".join(map(chr, range(1, 0x250)))
    for text in (everything, everything[::-1], "x" * 1000, "." * 300, "·" * 9):
        name = legal_name(text)
        assert not re.search(r'[<>:"/\\|?*%·\x00-\x1f\x7f]', name)
        assert 0 < len(name) <= LONGEST
        assert name == name.strip(" .")


@pytest.mark.parametrize("text", ["国旗" * 200, "🏴󠁧󠁢󠁥󠁮󠁧󠁿 " * 100, "é" * 500, "日本 · " * 90])
def test_names_of_all_scripts_leave_room_for_a_number_and_an_ending(text: str) -> None:
    """A name of a file has at most 255 bytes on Linux."""
    name = legal_name(text)
    assert name
    assert len(f"0001 {name}_00001_.png".encode()) <= 255


def test_a_cut_name_ends_well() -> None:
    assert legal_name("x" * (LONGEST - 1) + " y") == "x" * (LONGEST - 1)

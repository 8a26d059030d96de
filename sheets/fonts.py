"""Font files of the system, and which characters each of them can write."""

from __future__ import annotations

import io
import os
import struct
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Ranges = list[tuple[int, int]]
"""First and last code points, in order, that a font has a glyph for."""

SYSTEM_FONTS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "segoeui.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "Arial.ttf",
)
"""Fonts of Linux, Windows and macOS that know many scripts; Pillow's own knows little but ASCII."""

_SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
# A plain sans-serif looks most like the rest of a sheet. Handwriting and condensed ones come last.
_PREFERRED = ("notosans", "sans", "gothic", "hei", "segoeui", "arial", "yahei", "meiryo", "malgun")
_AVOIDED = ("bold", "italic", "oblique", "condensed", "light", "black", "thin", "mono", "serif")
_MOST_RANGES = 200_000  # more than any real font has; a damaged one must not take all memory


@lru_cache
def find_font(size: float, fonts: tuple[str, ...]) -> Font:
    """The first of ``fonts`` that the system has, in pixels of type, else Pillow's own."""
    for name in fonts:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


@lru_cache
def open_font(path: str, index: int, size: float) -> ImageFont.FreeTypeFont | None:
    """A font of a file; None where it has no outlines for this size, as some emoji fonts."""
    try:
        return ImageFont.truetype(path, size, index)
    except OSError:
        return None


class Coverage:
    """The characters that a font has glyphs for."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._ranges = sorted(ranges)
        self._firsts = [first for first, _ in self._ranges]

    def __contains__(self, character: str) -> bool:
        code = ord(character)
        at = bisect_right(self._firsts, code) - 1
        return at >= 0 and code <= self._ranges[at][1]

    def has_all(self, text: str) -> bool:
        return all(character in self for character in text)


@lru_cache
def coverage_of(font: Font) -> Coverage:
    """The characters that a loaded font can write."""
    if not isinstance(font, ImageFont.FreeTypeFont):
        return Coverage([(32, 126), (160, 255)])  # Pillow without FreeType has Latin-1 alone
    try:
        content = getattr(font, "font_bytes", None) or Path(str(font.path)).read_bytes()
        return Coverage(_ranges(io.BytesIO(content), font.index))
    except (OSError, struct.error):
        return Coverage([(32, 126)])


@lru_cache
def system_fonts() -> tuple[tuple[str, int, Coverage], ...]:
    """Path, index in the file and coverage of every font of the system, the plainest first.

    The folders are searched once in a process. Only the tables of characters are read.
    """
    paths = sorted({path for folder in font_folders() for path in _files(folder)}, key=_plainness)
    return tuple(font for path in paths for font in _fonts_in(path))


def font_folders() -> list[Path]:
    """The usual folders of fonts of Linux, macOS and Windows; some may not exist."""
    home = Path.home()
    if sys.platform == "win32":
        return [
            Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts",
            Path(os.environ.get("LOCALAPPDATA", home)) / "Microsoft" / "Windows" / "Fonts",
        ]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    data = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    ours = os.environ.get("XDG_DATA_HOME") or str(home / ".local" / "share")
    return [*(Path(folder) / "fonts" for folder in [ours, *data.split(":")]), home / ".fonts"]


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            if Path(name).suffix.lower() in _SUFFIXES:
                yield Path(parent, name)


def _plainness(path: Path) -> tuple[int, int, str]:
    name = path.stem.lower().replace("-", "").replace(" ", "")
    preferred = [i for i, part in enumerate(_PREFERRED) if part in name]
    sans = name.replace("sansserif", "sans")
    return (
        sum(part in sans for part in _AVOIDED),
        min(preferred, default=len(_PREFERRED)),
        str(path),
    )


def _fonts_in(path: Path) -> Iterator[tuple[str, int, Coverage]]:
    """The fonts of a file, which may be a collection; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            tag, _, count = struct.unpack(">4sII", file.read(12))
            for index in range(min(count, 64) if tag == b"ttcf" else 1):
                yield str(path), index, Coverage(_ranges(file, index))
    except (OSError, struct.error):
        return


def _ranges(file: BinaryIO, index: int) -> Ranges:
    """The code points of a font of an OpenType file, by its table ``cmap``."""
    start = 0
    if _read(file, 0, ">4s") == (b"ttcf",):
        (start,) = _read(file, 12 + 4 * index, ">I")
    _, tables = _read(file, start, ">IH")
    for number in range(tables):
        tag, _, offset, _ = _read(file, start + 12 + 16 * number, ">4sIII")
        if tag == b"cmap":
            return _ranges_of_table(file, offset)
    return []


def _ranges_of_table(file: BinaryIO, cmap: int) -> Ranges:
    _, count = _read(file, cmap, ">HH")
    subtables = {}
    for number in range(count):
        platform, encoding, offset = _read(file, cmap + 4 + 8 * number, ">HHI")
        # Unicode, of all planes or of the first; symbol fonts map other characters.
        if platform == 0 or (platform == 3 and encoding in (1, 10)):
            (kind,) = _read(file, cmap + offset, ">H")
            subtables[kind] = cmap + offset
    # Format 13 is that of fonts of last resort, which write a box for everything.
    if 12 in subtables:
        return _ranges_of_groups(file, subtables[12])
    return _ranges_of_segments(file, subtables[4]) if 4 in subtables else []


def _ranges_of_groups(file: BinaryIO, table: int) -> Ranges:
    (count,) = _read(file, table + 12, ">I")
    count = min(count, _MOST_RANGES)
    values = _read(file, table + 16, f">{3 * count}I")
    groups = zip(values[::3], values[1::3], values[2::3], strict=True)
    return [(first + (not glyph), last) for first, last, glyph in groups]


def _ranges_of_segments(file: BinaryIO, table: int) -> Ranges:
    _, length, _, twice = _read(file, table, ">4H")
    count = twice // 2
    words = _read(file, table + 14, f">{(length - 14) // 2}H")
    ends, starts = words[:count], words[count + 1 : 2 * count + 1]
    deltas, offsets = words[2 * count + 1 : 3 * count + 1], 3 * count + 1
    ranges = []
    for segment, (first, last, delta) in enumerate(zip(starts, ends, deltas, strict=True)):
        offset = words[offsets + segment]
        for code in range(first, min(last, 0xFFFE) + 1):
            glyph = code + delta
            if offset:
                at = offsets + segment + offset // 2 + code - first
                glyph = words[at] and words[at] + delta if at < len(words) else 0
            if glyph % 65536:
                ranges.append((code, code))
    return ranges


def _read(file: BinaryIO, offset: int, layout: str) -> tuple:
    file.seek(offset)
    return struct.unpack(layout, file.read(struct.calcsize(layout)))

"""Text in images: a font that the system has, and lines that fit."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

SYSTEM_FONTS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "segoeui.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "Arial.ttf",
)
"""Fonts of Linux, Windows and macOS that know many scripts; Pillow's own knows little but ASCII."""
MAX_LINES = 4


@lru_cache
def find_font(size: float, fonts: tuple[str, ...]) -> Font:
    """The first of ``fonts`` that the system has, in pixels of type, else Pillow's own."""
    for name in fonts:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def writable(text: str, font: Font) -> str:
    """``text`` on one line, in letters that the font has: Pillow's own gets × as x and é as e."""
    text = " ".join(text.split())
    if not isinstance(font, ImageFont.FreeTypeFont) or font.getname()[0] != "Aileron":
        return text
    plain = text.translate({ord("×"): "x", ord("–"): "-", ord("—"): "-", ord("…"): "..."})
    return "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))


def wrap(text: str, font: Font, width: float, separator: str = " ") -> list[str]:
    """Lines of ``text`` within ``width``, broken at ``separator``; at least one, at most four.

    What is longer is cut, with an ellipsis.
    """
    lines: list[str] = []
    for part in writable(text, font).split(separator):
        if lines and font.getlength(lines[-1] + separator + part) <= width:
            lines[-1] += separator + part
        else:
            lines.append(part)
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], lines[MAX_LINES - 1] + writable("…", font)]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: Font, width: float) -> str:
    """The longest beginning of ``line`` that fits with an ellipsis, or all of it."""
    if font.getlength(line) <= width + 1:
        return line
    dots = writable("…", font)
    lengths = range(len(line))
    fitting = bisect_right(lengths, width, key=lambda n: font.getlength(line[:n] + dots)) - 1
    return line[: max(fitting, 0)] + dots

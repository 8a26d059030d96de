"""Text in images: in fonts that have its letters, and in lines that fit."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache

from PIL import ImageDraw, ImageFont, features

from .fonts import SYSTEM_FONTS, Font, coverage_of, find_font, open_font, system_fonts

MAX_LINES = 4
Run = tuple[str, Font]
"""A part of a line, and the font that writes it."""

_JOINERS = "\u200c\u200d"
_PLAIN = {ord("×"): "x", ord("–"): "-", ord("—"): "-", ord("…"): "..."}


class Type:
    """Type of one size: a base font, and others of the system for what it cannot write.

    The base is the first of ``fonts`` that the system has, else Pillow's own. Without ``fonts``
    no other font is looked for. Letters that no font has are never drawn as boxes: see
    ``writable``.
    """

    def __init__(self, size: float, fonts: Sequence[str] = SYSTEM_FONTS) -> None:
        self.size = size
        self.base = find_font(size, tuple(fonts))
        self._covered = coverage_of(self.base)
        self._others = bool(fonts)
        # The layout of a large sheet asks for the same texts many times.
        self.getlength = lru_cache(maxsize=1 << 14)(self._measured)
        self.writable = lru_cache(maxsize=1 << 12)(self._written)

    def _written(self, text: str) -> str:
        """``text`` on one line, in letters that can be written.

        Letters that no font has lose their accents, or become "x" for "×" and the like. Where that
        does not help, they are escaped, as in "\\u732b"; of "3 · 猫" the id alone stays.
        """
        text = " ".join(text.split())
        if self._can_write(text):
            return text
        parts = [self._plainer(part) for part in text.split(" · ")]
        if len(parts) > 1 and parts[0][0].isdecimal() and not parts[1][1]:
            del parts[1]
        return " · ".join(part for part, _ in parts)

    def _plainer(self, text: str) -> tuple[str, bool]:
        """A part of a text as it can be written, and whether nothing of it had to be escaped."""
        written, complete = "", True
        for cluster in _clusters(unicodedata.normalize("NFC", text)):
            plain = unicodedata.normalize("NFKD", cluster.translate(_PLAIN))
            bare = "".join(c for c in plain if not unicodedata.combining(c))
            for form in (cluster, _visible(cluster), _visible(plain), _visible(bare)):
                if self._can_write(form):
                    written += form
                    break
            else:
                written += "".join(map(_escaped, _visible(cluster)))
                complete = False
        return " ".join(written.split()), complete

    def _can_write(self, text: str) -> bool:
        return self._font_for(text) is not None

    def _font_for(self, text: str) -> Font | None:
        """The first font that has all of ``text``, the base before others."""
        if _needs_shaping(text) and not shapes_scripts():
            return None
        if self._covered.has_all(text):
            return self.base
        return _other_font(text, self.size) if self._others else None

    def runs(self, text: str) -> list[Run]:
        """A writable line in parts of one font each; one font writes the whole line if it can.

        The parts between " · " go from left to right, whatever the direction of each: "96 × 64"
        would read "64 × 96" after a Hebrew word.
        """
        parts = [text]
        if any(unicodedata.bidirectional(c) in ("R", "AL") for c in text):
            parts = [part for part in re.split("( · )", text) if part]
        return [run for part in parts for run in self._runs_of_part(part)]

    def _runs_of_part(self, text: str) -> list[Run]:
        font = self._font_for(text)
        if font is not None:
            return [(text, font)]
        runs: list[Run] = []
        for cluster in _clusters(text):
            previous = runs[-1][1] if runs else None
            font = self._font_for(cluster) or self.base
            if previous is not None and coverage_of(previous).has_all(cluster):
                font = previous  # spaces and signs stay with the word before
            if font is previous:
                runs[-1] = (runs[-1][0] + cluster, font)
            else:
                runs.append((cluster, font))
        return runs

    def _measured(self, text: str) -> float:
        """The width of a writable line, in pixels."""
        return sum(font.getlength(part) for part, font in self.runs(text))

    def write(
        self,
        pen: ImageDraw.ImageDraw,
        position: tuple[float, float],
        text: str,
        ink: tuple[int, int, int],
        align: str = "l",
    ) -> None:
        """Write a line from its upper left, middle or right corner: ``align`` is l, m or r."""
        runs = self.runs(text)
        if len(runs) == 1 and runs[0][1] is self.base:
            pen.text(position, text, ink, self.base, anchor=f"{align}a")
            return
        left = position[0] - self.getlength(text) * {"l": 0.0, "m": 0.5, "r": 1.0}[align]
        # All fonts stand on the base's line.
        bottom = position[1] + _ascent(self.base)
        for part, font in runs:
            pen.text((left, bottom), part, ink, font, anchor="ls")
            left += font.getlength(part)


@lru_cache
def shapes_scripts() -> bool:
    """Whether Pillow joins Arabic letters, and writes from right to left: it needs raqm."""
    return bool(features.check("raqm"))


def legible(name: str, otherwise: str, fonts: Sequence[str] = SYSTEM_FONTS) -> str:
    """``name`` if fonts of the system have all its letters, else ``otherwise``."""
    kind = Type(15, fonts)
    return name if kind.writable(name) == " ".join(name.split()) else otherwise


def wrap(text: str, font: Type, width: float, separator: str = " ") -> list[str]:
    """Lines of ``text`` within ``width``, broken at ``separator``; at least one, at most four.

    What is longer is cut, with an ellipsis.
    """
    lines: list[str] = []
    for part in font.writable(text).split(separator):
        if lines and font.getlength(lines[-1] + separator + part) <= width + 0.5:  # rounded
            lines[-1] += separator + part
        else:
            lines.append(part)
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], lines[MAX_LINES - 1] + font.writable("…")]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: Type, width: float) -> str:
    """The longest beginning of ``line`` that fits with an ellipsis, or all of it."""
    if font.getlength(line) <= width + 1:
        return line
    dots = font.writable("…")
    lengths = range(len(line))
    fitting = bisect_right(lengths, width, key=lambda n: font.getlength(line[:n] + dots)) - 1
    return line[: max(fitting, 0)] + dots


@lru_cache(maxsize=4096)
def _other_font(text: str, size: float) -> ImageFont.FreeTypeFont | None:
    """The plainest font of the system that has all of ``text``."""
    for path, index, coverage in system_fonts():
        if coverage.has_all(text) and (font := open_font(path, index, size)) is not None:
            return font
    return None


def _clusters(text: str) -> Iterator[str]:
    """Letters with the marks that belong to them, which one font must write together."""
    cluster = ""
    for character in text:
        joined = cluster and (
            unicodedata.category(character) in ("Mn", "Mc", "Me")
            or character in _JOINERS
            or cluster[-1] in _JOINERS
            or 0x1F3FB <= ord(character) <= 0x1F3FF  # skin tones
        )
        if cluster and not joined:
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _visible(text: str) -> str:
    """``text`` without characters that have no look: controls, joiners, variation selectors."""
    return "".join(
        c
        for c in text
        if unicodedata.category(c) not in ("Cc", "Cf") and not 0xFE00 <= ord(c) <= 0xFE0F
    )


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode()


def _ascent(font: Font) -> float:
    return font.getmetrics()[0] if isinstance(font, ImageFont.FreeTypeFont) else 11


def _needs_shaping(text: str) -> bool:
    """Whether letters must be joined, reordered or written to the left to be read at all."""
    return any(
        unicodedata.bidirectional(c) in ("R", "AL")
        or 0x0900 <= ord(c) <= 0x0DFF
        or 0x0F00 <= ord(c) <= 0x109F
        or 0x1780 <= ord(c) <= 0x18AF
        for c in text
    )

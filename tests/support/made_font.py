"""A font of a few characters, made for a test; every glyph is the same bar."""

from __future__ import annotations

from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen


def make_font(path: Path, characters: str) -> None:
    """Write a TrueType font with glyphs for these characters, and a box for all others."""
    names = {ord(character): f"glyph{i}" for i, character in enumerate(characters)}
    glyphs = [".notdef", *names.values()]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap(names)
    builder.setupGlyf({name: _bar(800 if name == ".notdef" else 200) for name in glyphs})
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)


def _bar(width: int):
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (100 + width, 700), (100 + width, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()

"""Pictures of different sizes on one labelled sheet: rows and columns named, size and token count under each."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from .resolution import TOKEN_PIXELS

FITTED, TRUE_SCALE = "fitted", "true relative scale"
SCALES = (FITTED, TRUE_SCALE)

# Grey, so that neither a white picture nor a black one loses its edges.
PAPER, INK, FAINT = (224, 226, 228), (30, 30, 34), (88, 88, 94)
# The size of the type decides that of all else, in parts of it.
_TYPE = 15
_PADDING, _GAP, _LINE = 1.6, 1.1, 1.35
_NAME_WIDTH = 13
_MOST_LINES = 4

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# Those of Linux, Windows and macOS that know most scripts; Pillow's own knows little beyond ASCII.
_SYSTEM_FONTS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "segoeui.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "Arial.ttf",
)


@dataclass(frozen=True, slots=True)
class SheetCell:
    """A picture, the names of its row and column, and what stands under it; without a ``caption``, its size and tokens."""

    image: Image.Image
    row: str = ""
    column: str = ""
    caption: str | None = None

    @property
    def text(self) -> str:
        if self.caption is not None:
            return self.caption
        width, height = self.image.size
        return (
            f"{width} × {height} px · {(width // TOKEN_PIXELS) * (height // TOKEN_PIXELS)} tokens"
        )


def contact_sheet(
    cells: Sequence[SheetCell],
    title: str = "",
    scale: str = FITTED,
    max_side: int = 4096,
    cell_side: int = 256,
) -> Image.Image:
    """One RGB image of all ``cells``, rows and columns in order of first appearance; several cells in one place stand side by side.

    "fitted" gives each picture the area of a ``cell_side``² square, "true relative scale" enlarges or reduces all alike, the largest
    to that area. The sheet is never longer than ``max_side`` pixels a side: pictures shrink for it, type does not. Raises
    ``ValueError`` on no cells, an unknown scale, or a ``max_side`` that leaves less than 8 pixels for a picture.
    """
    if not cells:
        raise ValueError("A contact sheet needs at least one picture.")
    if scale not in SCALES:
        raise ValueError(f"No scale is called {scale!r}. There are: {', '.join(SCALES)}.")
    side = float(cell_side)
    while True:
        layout = _Layout(cells, title, scale, side)
        if max(layout.size) <= max_side:
            return layout.draw()
        side *= min(0.97, max_side / max(layout.size))
        if side < 8:
            raise ValueError(
                f"{len(cells)} pictures with their names do not fit on {max_side} pixels: allow a larger sheet, or compare fewer."
            )


class _Layout:
    def __init__(self, cells: Sequence[SheetCell], title: str, scale: str, side: float) -> None:
        self.title = title
        self.type = _TYPE
        self.font, self.small, self.large = (_font(self.type * part) for part in (1, 0.85, 1.5))
        self.rows = list(dict.fromkeys(cell.row for cell in cells))
        self.columns = list(dict.fromkeys(cell.column for cell in cells))
        self.places: dict[tuple[str, str], list[tuple[SheetCell, tuple[int, int]]]] = {}
        largest = max(cell.image.width * cell.image.height for cell in cells)
        for cell in cells:
            width, height = cell.image.size
            factor = side / (largest if scale == TRUE_SCALE else width * height) ** 0.5
            size = max(round(width * factor), 1), max(round(height * factor), 1)
            self.places.setdefault((cell.row, cell.column), []).append((cell, size))

        self.gap, self.padding, self.line = (
            round(self.type * part) for part in (_GAP, _PADDING, _LINE)
        )
        self.widths = [
            max(self._place_width(self.places.get((row, column), [])) for row in self.rows)
            for column in self.columns
        ]
        self.heights = [
            max(self._place_height(self.places.get((row, column), [])) for column in self.columns)
            for row in self.rows
        ]
        names = [_writable(row, self.font) for row in self.rows]
        longest = max(self.font.getlength(name) for name in names)
        longest_word = max(self.font.getlength(word) for name in names for word in name.split(" "))
        usual, most = self.type * _NAME_WIDTH, self.type * _NAME_WIDTH * 2
        self.name_width = round(min(longest, max(usual, longest_word), most))
        self.left = self.padding + (self.name_width + self.gap if self.name_width else 0)
        heads = [
            len(self._lines(column, width))
            for column, width in zip(self.columns, self.widths, strict=True)
            if column.strip()
        ]
        body = sum(self.widths) + self.gap * (len(self.widths) - 1)
        self.title_lines = (
            _wrap(title, self.large, self.left + body - self.padding) if title else []
        )
        self.head = self.padding + round(self.line * 1.6) * len(self.title_lines)
        self.top = self.head + (self.line * max(heads) + self.gap // 2 if heads else 0)
        self.heights = [
            max(height, self.line * len(self._lines(row, self.name_width)))
            if row.strip()
            else height
            for row, height in zip(self.rows, self.heights, strict=True)
        ]
        self.size = (
            self.left + body + self.padding,
            self.top + sum(self.heights) + self.gap * (len(self.heights) - 1) + self.padding,
        )

    def _lines(self, text: str, width: float) -> list[str]:
        return _wrap(text, self.font, width)

    def _cell_width(self, cell: SheetCell, size: tuple[int, int]) -> int:
        """That of the picture, or of the longest part of its caption that stays together, within reason."""
        longest_part = max(
            self.small.getlength(part) for part in _writable(cell.text, self.small).split(" · ")
        )
        return max(size[0], round(min(longest_part, self.type * _NAME_WIDTH)) + 1)

    def _captions(self, cell: SheetCell, width: float) -> list[str]:
        return _wrap(cell.text, self.small, width, " · ")

    def _place_width(self, place: list[tuple[SheetCell, tuple[int, int]]]) -> int:
        return sum(self._cell_width(*item) for item in place) + self.gap * max(len(place) - 1, 0)

    def _place_height(self, place: list[tuple[SheetCell, tuple[int, int]]]) -> int:
        lines = max(
            (len(self._captions(cell, self._cell_width(cell, size))) for cell, size in place),
            default=0,
        )
        return max((size[1] for _, size in place), default=0) + self.line * lines

    def draw(self) -> Image.Image:
        sheet = Image.new("RGB", self.size, PAPER)
        pen = ImageDraw.Draw(sheet)
        for i, text in enumerate(self.title_lines):
            pen.text(
                (self.padding, self.padding * 0.7 + i * self.line * 1.6), text, INK, self.large
            )
        x = self.left
        for column, width in zip(self.columns, self.widths, strict=True):
            lines = self._lines(column, width)
            for i, text in enumerate(lines):
                pen.text(
                    (x + width / 2, self.top - self.gap // 2 - self.line * (len(lines) - i)),
                    text,
                    INK,
                    self.font,
                    anchor="ma",
                )
            x += width + self.gap
        y = self.top
        for row, height in zip(self.rows, self.heights, strict=True):
            lines = self._lines(row, self.name_width)
            pictures = max(
                (
                    size[1]
                    for column in self.columns
                    for _, size in self.places.get((row, column), [])
                ),
                default=0,
            )
            for i, text in enumerate(lines):
                start = y + max(0, (pictures - self.line * len(lines)) / 2)
                pen.text(
                    (self.padding + self.name_width, start + i * self.line),
                    text,
                    INK,
                    self.font,
                    anchor="ra",
                )
            x = self.left
            for column, width in zip(self.columns, self.widths, strict=True):
                self._draw_place(
                    sheet, pen, self.places.get((row, column), []), x, y, width, pictures
                )
                x += width + self.gap
            y += height + self.gap
        return sheet

    def _draw_place(
        self,
        sheet: Image.Image,
        pen: ImageDraw.ImageDraw,
        place: list,
        x: int,
        y: int,
        width: int,
        pictures: int,
    ) -> None:
        """Pictures of a row stand on one line, captions under it."""
        x += (width - self._place_width(place)) // 2
        for cell, size in place:
            own = self._cell_width(cell, size)
            # A picture drawn pixel by pixel stays so when enlarged; a reduced one is averaged.
            how = (
                Image.Resampling.LANCZOS if size[0] < cell.image.width else Image.Resampling.BICUBIC
            )
            picture = cell.image.convert("RGB")
            picture = picture if picture.size == size else picture.resize(size, how)
            sheet.paste(picture, (x + (own - size[0]) // 2, y + pictures - size[1]))
            for i, text in enumerate(self._captions(cell, own)):
                pen.text(
                    (x + own / 2, y + pictures + self.line * (i + 0.2)),
                    text,
                    FAINT,
                    self.small,
                    anchor="ma",
                )
            x += own + self.gap


@lru_cache
def _font(size: float) -> Font:
    for name in _SYSTEM_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _writable(text: str, font: Font) -> str:
    """``text`` on one line, in letters that the font has: Pillow's own gets × as x and é as e."""
    text = " ".join(text.split())
    if not isinstance(font, ImageFont.FreeTypeFont) or font.getname()[0] != "Aileron":
        return text
    plain = text.translate({ord("×"): "x", ord("–"): "-", ord("—"): "-", ord("…"): "..."})
    return "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))


def _wrap(text: str, font: Font, width: float, separator: str = " ") -> list[str]:
    """Lines of ``text`` within ``width``, broken at ``separator`` and, where a word alone is longer, cut with an ellipsis."""
    lines: list[str] = []
    for part in _writable(text, font).split(separator):
        if lines and font.getlength(lines[-1] + separator + part) <= width:
            lines[-1] += separator + part
        else:
            lines.append(part)
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1] + _writable("…", font)]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: Font, width: float) -> str:
    if font.getlength(line) <= width + 1:
        return line
    dots = _writable("…", font)
    fitting = (
        bisect_right(
            range(len(line)), width, key=lambda length: font.getlength(line[:length] + dots)
        )
        - 1
    )
    return line[: max(fitting, 0)] + dots

"""Images of different sizes on one sheet: a grid with names of rows and columns, and captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, zip_longest

from PIL import Image, ImageDraw

from .fonts import SYSTEM_FONTS
from .text import Type, wrap

FITTED, TRUE_SCALE = "fitted", "true relative scale"
SCALES = (FITTED, TRUE_SCALE)
MAX_SIDE = 4096
"""Of a sheet, in pixels."""
CELL_SIDE = 256
"""Of a square image on a sheet, in pixels."""

# Grey, so that neither a white image nor a black one loses its edges.
PAPER, INK, FAINT = (224, 226, 228), (30, 30, 34), (88, 88, 94)
# Sizes in pixels; all follow from that of the type.
TYPE = 15
SMALL, LARGE = 0.85 * TYPE, 1.5 * TYPE
PADDING, GAP, LINE = round(1.6 * TYPE), round(1.1 * TYPE), round(1.35 * TYPE)
TITLE_LINE = round(1.6 * LINE)
NAME_WIDTH = 13 * TYPE
MIN_SIDE = 8


class SheetTooLargeError(ValueError):
    """Images that do not fit on a sheet, and the size that it would need."""

    def __init__(self, message: str, size: tuple[int, int]) -> None:
        super().__init__(message)
        self.size = size


@dataclass(frozen=True, slots=True)
class Blank:
    """The size of an image that does not exist yet, to plan its sheet; it cannot be drawn."""

    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class SheetCell:
    """An image and the caption under it, which breaks at " · " first."""

    image: Image.Image | Blank
    caption: str = ""


Grid = Sequence[Sequence[SheetCell | None]]
"""Rows of cells, which may differ in length; None is an empty place."""


def contact_sheet(
    grid: Grid,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    *,
    title: str = "",
    scale: str = FITTED,
    max_side: int = MAX_SIDE,
    cell_side: int = CELL_SIDE,
    fonts: Sequence[str] = SYSTEM_FONTS,
) -> Image.Image:
    """One RGB image of a ``grid``; ``rows`` and ``columns`` are their names, where they have any.

    "fitted" gives each image the area of a ``cell_side``² square; "true relative scale" resizes all
    by the same factor, the largest to that area. No side of the sheet exceeds ``max_side`` pixels:
    images shrink for it, type does not. The first of ``fonts`` that the system has is used, else
    Pillow's own, and other fonts of the system for letters that it lacks. Raises ``ValueError`` for
    a grid without images, names that are not one per row or column, an unknown scale, and a
    ``max_side`` that leaves less than 8 pixels for an image: see ``pages.contact_sheets``.
    """
    return lay_out(grid, rows, columns, title, scale, max_side, cell_side, fonts).draw()


def lay_out(
    grid: Grid,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    scale: str,
    max_side: int,
    cell_side: float,
    fonts: Sequence[str],
    smallest: float = MIN_SIDE,
) -> Layout:
    """The places of everything on a ``contact_sheet``.

    Raises as it does, and ``SheetTooLargeError`` where images would be smaller than ``smallest``.
    """
    count = sum(cell is not None for row in grid for cell in row)
    if not count:
        raise ValueError("A contact sheet needs at least one image.")
    if scale not in SCALES:
        raise ValueError(f"Unknown scale {scale!r}. Choose from {', '.join(SCALES)}.")
    rows = _names("row", rows, len(grid))
    columns = _names("column", columns, max(map(len, grid)))
    side = float(cell_side)
    while True:
        layout = Layout(grid, rows, columns, title, scale, side, fonts)
        if max(layout.size) <= max_side:
            return layout
        if side <= smallest:
            raise SheetTooLargeError(
                f"{count} images with their names do not fit on {max_side} pixels: allow a larger "
                "sheet, or compare fewer.",
                layout.size,
            )
        side = max(side * min(0.97, max_side / max(layout.size)), smallest)


def by_name(
    cells: Iterable[tuple[str, str, SheetCell]],
) -> tuple[list[list[SheetCell | None]], list[str], list[str]]:
    """The grid, row names and column names of cells that come as (row, column, cell).

    Rows and columns are in order of first appearance. Raises ``ValueError`` for two cells in one
    place.
    """
    places: dict[tuple[str, str], SheetCell] = {}
    for row, column, cell in cells:
        if (row, column) in places:
            raise ValueError(f"Two images for row {row!r} and column {column!r} of a sheet.")
        places[row, column] = cell
    rows = list(dict.fromkeys(row for row, _ in places))
    columns = list(dict.fromkeys(column for _, column in places))
    return [[places.get((row, column)) for column in columns] for row in rows], rows, columns


def mosaic(grid: Sequence[Sequence[Image.Image | None]], gap: int = 1) -> Image.Image:
    """Images of a grid at their own size, ``gap`` pixels apart on black, without names.

    Rows and columns without images take no room. Raises ``ValueError`` where all are without.
    """
    grid = [row for row in grid if any(row)]
    if not grid:
        raise ValueError("A mosaic needs at least one image.")
    columns = [column for column in zip_longest(*grid) if any(column)]
    lefts, right = _positions([max(i.width for i in column if i) for column in columns], 0, gap)
    tops, bottom = _positions([max(i.height for i in row if i) for row in grid], 0, gap)
    sheet = Image.new("RGB", (right, bottom))
    for left, column in zip(lefts, columns, strict=True):
        for top, image in zip(tops, column, strict=True):
            if image is not None:
                sheet.paste(image, (left, top))
    return sheet


def _names(what: str, names: Sequence[str], count: int) -> Sequence[str]:
    if names and len(names) != count:
        raise ValueError(f"{len(names)} {what} names for {count} {what}s of a sheet.")
    return [" ".join(name.split()) for name in names] or [""] * count


def _positions(sizes: Sequence[int], start: int = 0, gap: int = GAP) -> tuple[list[int], int]:
    """Where things of these sizes begin, a ``gap`` apart, and where the last one ends."""
    starts = list(accumulate(sizes, lambda at, size: at + size + gap, initial=start))
    return starts[:-1], starts[-1] - gap


@lru_cache(maxsize=8)
def _types(fonts: tuple[str, ...]) -> tuple[Type, Type, Type]:
    """The type of names, of captions and of the title."""
    return Type(TYPE, fonts), Type(SMALL, fonts), Type(LARGE, fonts)


class _Placed:
    """A cell at its size on the sheet."""

    def __init__(self, cell: SheetCell, factor: float, font: Type) -> None:
        self.image = cell.image
        width, height = (max(round(side * factor), 1) for side in cell.image.size)
        self.size = width, height
        # As wide as the image, or as the longest part of the caption that stays together, if not
        # too long.
        parts = font.writable(cell.caption).split(" · ")
        longest = max(font.getlength(part) for part in parts)
        self.width = max(width, round(min(longest, NAME_WIDTH)) + 1)
        self.caption = wrap(cell.caption, font, self.width, " · ")

    def resized(self) -> Image.Image:
        if isinstance(self.image, Blank):
            raise ValueError("A sheet is drawn of images; a blank one only plans it.")
        image = self.image.convert("RGB")
        if image.size == self.size:
            return image
        smaller = self.size[0] < image.width
        how = Image.Resampling.LANCZOS if smaller else Image.Resampling.BICUBIC
        return image.resize(self.size, how)


class Layout:
    """Where everything stands on a sheet whose images have the area of a ``side``² square."""

    def __init__(
        self,
        grid: Grid,
        rows: Sequence[str],
        columns: Sequence[str],
        title: str,
        scale: str,
        side: float,
        fonts: Sequence[str],
    ) -> None:
        self.side = side
        self.font, self.small, self.large = _types(tuple(fonts))
        self.grid = self._placed(grid, scale, side)
        self.widths = [
            max((cell.width for cell in column if cell), default=0)
            for column in zip_longest(*self.grid)
        ]
        self.name_width = _name_width(rows, self.font)
        self.row_names = [self._lines(name, self.name_width) for name in rows]
        self.column_names = [
            self._lines(name, width) for name, width in zip(columns, self.widths, strict=True)
        ]
        left = PADDING + (self.name_width + GAP if self.name_width else 0)
        self.lefts, right = _positions(self.widths, left)
        self.title = wrap(title, self.large, right - PADDING) if title else []
        self.tops, bottom = _positions(self._heights(), self._top())
        self.size = right + PADDING, bottom + PADDING

    def _placed(self, grid: Grid, scale: str, side: float) -> list[list[_Placed | None]]:
        """Every cell at its size."""
        largest = largest_area(grid)

        def placed(cell: SheetCell) -> _Placed:
            area = largest if scale == TRUE_SCALE else _area(cell)
            return _Placed(cell, side / area**0.5, self.small)

        return [[cell and placed(cell) for cell in row] for row in grid]

    def _lines(self, name: str, width: float) -> list[str]:
        """The lines of a row's or column's name; none without a name."""
        return wrap(name, self.font, width) if name else []

    def _top(self) -> int:
        """Where the first row begins: below the title and the names of the columns."""
        top = PADDING + TITLE_LINE * len(self.title)
        name_lines = max(map(len, self.column_names))
        return top + (LINE * name_lines + GAP // 2 if name_lines else 0)

    def _heights(self) -> list[int]:
        """Of each row: room for its images with their captions, and for its name."""
        heights = []
        for row, name in zip(self.grid, self.row_names, strict=True):
            captions = max((len(cell.caption) for cell in row if cell), default=0)
            heights.append(max(_image_height(row) + LINE * captions, LINE * len(name)))
        return heights

    def draw(self) -> Image.Image:
        sheet = Image.new("RGB", self.size, PAPER)
        pen = ImageDraw.Draw(sheet)
        for i, line in enumerate(self.title):
            self.large.write(pen, (PADDING, PADDING * 0.7 + i * LINE * 1.6), line, INK)
        for left, width, name in zip(self.lefts, self.widths, self.column_names, strict=True):
            top = self._top() - GAP // 2 - LINE * len(name)
            _write(pen, name, left + width / 2, top, INK, self.font, "m")
        for top, row, name in zip(self.tops, self.grid, self.row_names, strict=True):
            height = _image_height(row)
            name_top = top + max(0, (height - LINE * len(name)) / 2)
            _write(pen, name, PADDING + self.name_width, name_top, INK, self.font, "r")
            for left, width, cell in zip(self.lefts, self.widths, row, strict=False):
                if cell is not None:
                    self._draw_cell(sheet, pen, cell, left, width, top + height)
        return sheet

    def _draw_cell(
        self,
        sheet: Image.Image,
        pen: ImageDraw.ImageDraw,
        cell: _Placed,
        left: int,
        width: int,
        bottom: int,
    ) -> None:
        """In the middle of its column, with the image's lower edge at ``bottom``."""
        left += (width - cell.width) // 2
        image_left = left + (cell.width - cell.size[0]) // 2
        sheet.paste(cell.resized(), (image_left, bottom - cell.size[1]))
        middle = left + cell.width / 2
        _write(pen, cell.caption, middle, bottom + 0.2 * LINE, FAINT, self.small, "m")


def largest_area(grid: Grid) -> int:
    """Pixels of the largest image of a grid."""
    return max(_area(cell) for row in grid for cell in row if cell)


def _area(cell: SheetCell) -> int:
    return cell.image.width * cell.image.height


def _image_height(row: Sequence[_Placed | None]) -> int:
    """The height of the tallest image; all stand on one line, and their captions below it."""
    return max((cell.size[1] for cell in row if cell), default=0)


def _name_width(names: Sequence[str], font: Type) -> int:
    """Room for row names: for the longest, or the longest word, within reason."""
    names = [font.writable(name) for name in names]
    longest = max(font.getlength(name) for name in names)
    longest_word = max(font.getlength(word) for name in names for word in name.split(" "))
    return round(min(longest, max(NAME_WIDTH, longest_word), 2 * NAME_WIDTH))


def _write(
    pen: ImageDraw.ImageDraw,
    lines: Sequence[str],
    x: float,
    y: float,
    ink: tuple[int, int, int],
    font: Type,
    align: str,
) -> None:
    for i, line in enumerate(lines):
        font.write(pen, (x, y + i * LINE), line, ink, align)

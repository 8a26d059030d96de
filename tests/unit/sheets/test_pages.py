"""More images than fit on one sheet."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image

from sheets.contact_sheet import SCALES, TRUE_SCALE, Blank, SheetCell, contact_sheet
from sheets.pages import SMALLEST, contact_sheets, count_sheets


def cell(number: int, width: int = 64, height: int = 64) -> SheetCell:
    """An image whose colour tells its number."""
    return SheetCell(Image.new("RGB", (width, height), (255, number // 256, number % 256)), "size")


def numbers(sheet: Image.Image) -> dict[int, int]:
    """The number of pixels of each image on a sheet."""
    pixels = np.asarray(sheet).astype(int)
    of_images = pixels[(pixels[..., 0] == 255) & (pixels[..., 1] < 16)]
    found, counts = np.unique(of_images[:, 1] * 256 + of_images[:, 2], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


@pytest.mark.cases("P5")
@pytest.mark.parametrize(("rows", "columns"), [(80, 7), (80, 1), (1, 100), (3, 60), (42, 52)])
def test_any_number_of_rows_and_columns_is_drawn(rows: int, columns: int) -> None:
    grid = [[cell(row * columns + column) for column in range(columns)] for row in range(rows)]
    started = time.monotonic()
    sheets = contact_sheets(
        grid, [f"row {i}" for i in range(rows)], [f"{i}" for i in range(columns)], title="Many"
    )
    assert len(sheets) > 1
    assert all(max(sheet.size) <= 4096 for sheet in sheets)
    sizes = [numbers(sheet) for sheet in sheets]
    drawn = [number for size in sizes for number in size]
    assert sorted(drawn) == list(range(rows * columns))
    areas = {area for size in sizes for area in size.values()}
    assert len(areas) == 1  # all sheets have one scale
    assert areas.pop() >= (SMALLEST - 1) ** 2
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("scale", SCALES)
def test_what_fits_is_the_one_sheet_it_was(scale: str) -> None:
    grid = [[cell(1), cell(2, 128, 64)], [cell(3)]]
    names = ["a", "b"], ["c", "d"]
    (sheet,) = contact_sheets(grid, *names, title="T", scale=scale, cell_side=100)
    assert sheet == contact_sheet(grid, *names, title="T", scale=scale, cell_side=100)


def test_the_scale_of_all_sheets_is_that_of_the_largest_image() -> None:
    grid = [[cell(i, 16 * (i + 1), 16 * (i + 1)) for i in range(12)]]
    sheets = contact_sheets(grid, scale=TRUE_SCALE, max_side=400, cell_side=120)
    areas = {number: area for sheet in sheets for number, area in numbers(sheet).items()}
    assert len(sheets) > 2
    assert [areas[i] ** 0.5 / areas[11] ** 0.5 for i in (5, 8)] == pytest.approx(
        [6 / 12, 9 / 12], abs=0.03
    )


def test_parts_without_an_image_make_no_sheet() -> None:
    grid = [[cell(1), *[None] * 99], *[[None]] * 99, [cell(2)]]
    sheets = contact_sheets(grid, cell_side=256, max_side=1000)
    assert [list(numbers(sheet)) for sheet in sheets] == [[1], [2]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: contact_sheets([]), "needs at least one image"),
        (lambda: contact_sheets([[cell(1)]], ["a", "b"]), "2 row names for 1 rows"),
        (lambda: contact_sheets([[cell(1)]], scale="huge"), "Unknown scale"),
        (lambda: contact_sheets([[cell(1)] * 2], max_side=60), "do not fit on 60 pixels"),
    ],
)
def test_what_makes_no_sheets_is_explained(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (80, 7), (42, 52)])
def test_the_number_of_sheets_is_known_before_there_are_images(rows: int, columns: int) -> None:
    names = [f"row {i}" for i in range(rows)], [f"{i}" for i in range(columns)]
    drawn = contact_sheets([[cell(0)] * columns] * rows, *names)
    blank = SheetCell(Blank(64, 64), "size")
    assert count_sheets([[blank] * columns] * rows, *names) == len(drawn)
    with pytest.raises(ValueError, match="blank one only plans"):
        contact_sheet([[blank]])

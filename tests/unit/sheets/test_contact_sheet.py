"""Images on a sheet: how large each is, where it stands, and that no name breaks the sheet."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sheets.contact_sheet import (
    FITTED,
    PAPER,
    SCALES,
    TRUE_SCALE,
    SheetCell,
    by_name,
    contact_sheet,
    mosaic,
)

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
Colour = tuple[int, int, int]


def cell(colour: Colour, width: int, height: int, caption: str = "a caption") -> SheetCell:
    return SheetCell(Image.new("RGB", (width, height), colour), caption)


def box(sheet: Image.Image, colour: Colour) -> tuple[int, int, int, int]:
    """Left, top, width and height of the image of this colour, all of which is on the sheet."""
    found = (np.asarray(sheet) == colour).all(-1)
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    width, height = int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
    assert found.sum() == width * height
    return int(columns[0]), int(rows[0]), width, height


def size(sheet: Image.Image, colour: Colour) -> tuple[int, int]:
    return box(sheet, colour)[2:]


THREE = [[cell(RED, 256, 256), cell(GREEN, 1024, 512), cell(BLUE, 144, 432)]]


def test_fitted_images_have_equal_areas_and_keep_their_ratios() -> None:
    sheet = contact_sheet(THREE, scale=FITTED, cell_side=200)
    assert size(sheet, RED) == (200, 200)
    assert size(sheet, GREEN) == (round(200 * 2**0.5), round(200 / 2**0.5))
    assert size(sheet, BLUE) == (round(200 / 3**0.5), round(200 * 3**0.5))


def test_true_scale_reduces_all_alike_and_the_largest_to_the_asked_area() -> None:
    cells = [
        cell(RED, 256, 256),
        cell(GREEN, 512, 512),
        cell(BLUE, 768, 256),
        cell(YELLOW, 128, 512),
    ]
    sheet = contact_sheet([cells], scale=TRUE_SCALE, cell_side=128)
    assert [size(sheet, colour) for colour in (RED, GREEN, BLUE, YELLOW)] == [
        (64, 64),
        (128, 128),
        (192, 64),
        (32, 128),
    ]


@pytest.mark.parametrize("scale", SCALES)
def test_a_sheet_is_never_longer_than_allowed_and_loses_no_image(scale: str) -> None:
    sheet = contact_sheet(THREE, title="All three", scale=scale, max_side=500, cell_side=400)
    assert max(sheet.size) <= 500
    assert max(sheet.size) > 400  # no smaller than needed
    red, green, blue = (size(sheet, colour) for colour in (RED, GREEN, BLUE))
    assert green[0] / red[0] == pytest.approx(2**0.5 if scale == FITTED else 4, rel=0.05)
    assert blue[1] / red[1] == pytest.approx(3**0.5 if scale == FITTED else 432 / 256, rel=0.05)


def test_images_that_cannot_fit_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"40 images .* do not fit on 300 pixels: allow a larger sheet, or compare fewer",
    ):
        contact_sheet([[cell(RED, 64, 64)] * 40], max_side=300)


def test_rows_and_columns_come_in_order_of_first_appearance() -> None:
    red, green, blue, yellow = (cell(colour, 64, 64) for colour in (RED, GREEN, BLUE, YELLOW))
    named = by_name([("z", "y", red), ("z", "x", green), ("a", "y", blue), ("a", "x", yellow)])
    assert named == ([[red, green], [blue, yellow]], ["z", "a"], ["y", "x"])
    sheet = contact_sheet(*named, cell_side=64)
    (red, top, *_), (green, green_top, *_), (blue, bottom, *_), (yellow, yellow_top, *_) = (
        box(sheet, c) for c in (RED, GREEN, BLUE, YELLOW)
    )
    assert red == blue < green == yellow
    assert top == green_top < bottom == yellow_top


def test_images_of_a_row_stand_on_one_line() -> None:
    sheet = contact_sheet(THREE, scale=TRUE_SCALE)
    bottoms = {
        top + height for _, top, _, height in (box(sheet, colour) for colour in (RED, GREEN, BLUE))
    }
    assert len(bottoms) == 1


def test_a_place_may_stay_empty_and_a_row_be_short() -> None:
    named = by_name([("1", "a", cell(RED, 64, 64)), ("2", "b", cell(GREEN, 64, 64))])
    assert named[0] == [[cell(RED, 64, 64), None], [None, cell(GREEN, 64, 64)]]
    short = [[cell(RED, 64, 64)], [None, cell(GREEN, 64, 64)]]
    sheets = [contact_sheet(*named, cell_side=64), contact_sheet(short, cell_side=64)]
    for sheet in sheets:
        (left, top, *_), (right, bottom, *_) = box(sheet, RED), box(sheet, GREEN)
        assert left < right
        assert top < bottom


def test_a_sheet_of_no_named_cells_is_refused_as_one_without_images() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet(*by_name([]))


def test_two_images_for_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match="Two images for row 'a' and column 'b'"):
        by_name([("a", "b", cell(RED, 64, 64)), ("a", "b", cell(GREEN, 64, 64))])


def written(sheet: Image.Image, left: int, top: int, right: int, bottom: int) -> bool:
    """Whether anything stands in this part of the sheet."""
    return bool((np.asarray(sheet)[top:bottom, left:right] != PAPER).any())


def test_names_captions_and_title_are_written_where_they_belong() -> None:
    sheet = contact_sheet(
        [[cell(RED, 128, 128)]], ["row"], ["column"], title="Title", cell_side=128
    )
    left, top, width, height = box(sheet, RED)
    assert written(sheet, 0, top, left, top + height)  # row
    assert written(sheet, left, top - 30, left + width, top)  # column
    assert written(sheet, 0, 0, sheet.width, top - 40)  # title
    assert written(sheet, left, top + height, left + width, sheet.height)  # caption


def test_what_has_no_name_takes_no_space() -> None:
    bare = contact_sheet([[cell(RED, 128, 128, "")]], cell_side=128)
    spaces = contact_sheet([[cell(RED, 128, 128, "")]], [" "], ["  "], cell_side=128)
    assert spaces.size == bare.size
    left, top, *_ = box(bare, RED)
    assert left == top  # the margin alone
    assert not written(bare, 0, 0, left, bare.height)


ODD_NAMES = {
    "scripts": "Finlande é ñ ß · 日本 · Ελλάδα · हिन्दी · العربية · 🇫🇮🦩",
    "one long word": "supercalifragilistic" * 100,
    "many words": "long " * 500,
    "line breaks": "first\nsecond\r\n\tthird",
    "signs": "\x00\x1b[0m %s {0} <b> \\",
}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES.keys())
@pytest.mark.parametrize("where", ["title", "row", "column", "caption"])
def test_no_name_breaks_the_sheet_or_runs_over_its_edge(where: str, name: str) -> None:
    names = {"row": "a row", "column": "a column", "caption": "", "title": "A title", where: name}
    sheet = contact_sheet(
        [[cell(RED, 64, 64, names["caption"]), None], [None, cell(GREEN, 128, 64)]],
        [names["row"], "another"],
        [names["column"], "other"],
        title=names["title"],
        cell_side=100,
    )
    assert size(sheet, RED) == (100, 100)
    assert size(sheet, GREEN) == (141, 71)
    edge = np.asarray(sheet).copy()
    edge[4:-4, 4:-4] = PAPER
    assert (edge == PAPER).all()
    assert sheet.height < 600


def test_a_long_caption_of_a_low_image_stays_within_its_row() -> None:
    tall, low = cell(RED, 100, 400, "x"), cell(GREEN, 400, 100, " · ".join(["a long part"] * 30))
    sheet = contact_sheet([[tall, low]], scale=TRUE_SCALE, cell_side=200)
    assert not written(sheet, 0, sheet.height - 20, sheet.width, sheet.height)


def test_without_a_system_font_pillows_own_writes_the_names() -> None:
    for name in ODD_NAMES.values():
        sheet = contact_sheet(
            [[cell(RED, 128, 128)]], [name], [name], title=name, cell_side=128, fonts=()
        )
        left, top, *_ = box(sheet, RED)
        assert written(sheet, 0, top, left, sheet.height)


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0)])
def test_a_white_and_a_black_image_have_edges(colour: Colour) -> None:
    sheet = contact_sheet([[cell(colour, 64, 64, "")]], cell_side=64)
    assert size(sheet, colour) == (64, 64)
    assert min(abs(a - b) for a, b in zip(colour, PAPER, strict=True)) > 25


def test_any_mode_of_image_is_taken() -> None:
    modes = ("L", "P", "1", "RGBA")
    sheet = contact_sheet([[SheetCell(Image.new(mode, (64, 64), 255)) for mode in modes]])
    assert sheet.mode == "RGB"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: contact_sheet([]), "needs at least one image"),
        (lambda: contact_sheet([[None]]), "needs at least one image"),
        (
            lambda: contact_sheet(THREE, scale="huge"),
            "Unknown scale 'huge'.*fitted, true relative scale",
        ),
        (lambda: contact_sheet(THREE, ["a", "b"]), "2 row names for 1 rows"),
        (lambda: contact_sheet(THREE, columns=["a"]), "1 column names for 3 columns"),
    ],
)
def test_what_makes_no_sheet_is_explained(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_mosaic_shows_images_at_their_size_without_room_for_what_is_missing() -> None:
    red, green, blue = (
        Image.new("RGB", size, colour)
        for size, colour in (((6, 3), RED), ((2, 5), GREEN), ((4, 4), BLUE))
    )
    sheet = mosaic([[red, None, green], [None, None, None], [None, None, blue]])
    assert sheet.size == (6 + 1 + 4, 5 + 1 + 4)
    assert box(sheet, RED) == (0, 0, 6, 3)
    assert box(sheet, GREEN) == (7, 0, 2, 5)
    assert box(sheet, BLUE) == (7, 6, 4, 4)

"""``python -m devkit.flags``: which flags there are, and the table of what they change."""

from __future__ import annotations

import math

import pytest
from PIL import Image

from devkit import flags
from devkit.flags import LEFT_OUT, REFERENCE, ROWS, Outcome, Row


def drawn(value: int, size: tuple[int, int] = (4, 2)) -> Image.Image:
    return Image.new("RGB", size, (value, value, value))


SAME = Outcome(3.4, [drawn(10), drawn(20)], said=["Always said."])


def test_every_row_has_a_name_of_its_own_and_nothing_is_tried_and_left_out() -> None:
    names = [row.name for row in (REFERENCE, *ROWS)]
    assert len(set(names)) == len(names)
    assert not {argument for row in ROWS for argument in row.arguments} & LEFT_OUT.keys()


def test_paths_of_one_run_are_not_in_a_name() -> None:
    assert Row(("--input-directory", "{base}/an input")).name == "--input-directory …"
    assert Row((), folder="two words").name == "(none) in two words/"


def test_a_flag_that_is_new_in_comfyui_is_named() -> None:
    text = 'parser.add_argument("--bf16-unet")\ngroup.add_argument(\n    "--brand-new",\n)'
    assert flags.unknown_flags(text) == ["--brand-new"]


def test_the_distance_of_images_is_in_db() -> None:
    assert math.isinf(flags.psnr(drawn(7), drawn(7)))
    assert flags.psnr(drawn(0), drawn(255)) == pytest.approx(0)
    assert flags.psnr(drawn(100), drawn(101)) == pytest.approx(20 * math.log10(255))


@pytest.mark.parametrize(
    ("outcome", "cell", "good"),
    [
        (SAME, "same", True),
        (Outcome(1, [drawn(10), drawn(21)]), "48 dB", True),
        (Outcome(1, [drawn(10), drawn(40)], said=["Always said."]), "22 dB", False),
        (Outcome(1, [drawn(10), drawn(40)], said=["It cannot."]), "22 dB", True),
        (Outcome(1, [drawn(10)]), "1 images, expected 2 of the same sizes", False),
        (Outcome(1, [drawn(10), drawn(20, (2, 2))]), "2 images, expected 2 of", False),
        (Outcome(1, error="ComfyUI stopped."), "ComfyUI stopped.", False),
    ],
)
def test_a_row_is_good_if_it_draws_the_same_or_says_why_not(
    outcome: Outcome, cell: str, good: bool
) -> None:
    assert flags.result(outcome, SAME).startswith(cell)
    assert flags.is_good(outcome, SAME) is good


def test_the_table_has_a_row_for_each_outcome_and_what_is_new_in_its_log() -> None:
    other = Outcome(71, [drawn(10), drawn(21)], said=["Always said.", "Slow | here."])
    table = flags.table({"(none)": SAME, "--slow": other}, SAME)
    assert table.splitlines()[2:] == [
        "| `(none)` | same | 3 |  |",
        "| `--slow` | 48 dB | 71 | Slow / here. |",
    ]


def test_the_packs_lines_are_found_in_a_log() -> None:
    log = "\x1b[33m[WARNING]\x1b[0m FiT: One.\n[INFO] FiT: Two.\nFiT: One.\nRequested FiT: no\n"
    assert list(flags._said(log)) == ["One.", "Two."]

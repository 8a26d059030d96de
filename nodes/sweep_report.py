"""What a sweep will cost, said before anything is sampled."""

from __future__ import annotations

from ..comfyui_fitv2.resolution import describe_size
from ..comfyui_fitv2.solvers import DEFAULT_SOLVER, SOLVERS
from ..sheets.contact_sheet import Blank, SheetCell
from ..sheets.pages import count_sheets
from .sweep_cells import Sweep, SweepCell

STEPS, GUIDANCE_SCALE = 20, 1.5
"""What FiT Sweep Sampler is set to unless somebody changes it."""


def counted(number: int, noun: str) -> str:
    """A number with what it counts: "1 row", "2 rows"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def evaluations(cells: tuple[SweepCell, ...] | list[SweepCell]) -> int:
    """How often the model draws an image, at most, for cells with all settings.

    With guidance it draws each with its class and without.
    """
    return sum(
        (cell.steps or 0)
        * SOLVERS[cell.solver or DEFAULT_SOLVER].evaluations
        * (1 if cell.guidance_scale == 1 else 2)
        for cell in cells
    )


def overview(sweep: Sweep) -> list[str]:
    """Lines on the number of images, of model evaluations and of sheets."""
    size = f"{counted(len(sweep.rows), 'row')} × {counted(len(sweep.columns), 'column')}"
    lines = [f"{counted(len(sweep.cells), 'image')}: {size}."]
    filled = sweep.filled(0, STEPS, DEFAULT_SOLVER, GUIDANCE_SCALE)
    first = sweep.cells[0]
    left = [
        text
        for known, text in (
            (first.steps, f"{STEPS} steps"),
            (first.solver, f"the solver {DEFAULT_SOLVER}"),
            (first.guidance_scale, f"guidance {GUIDANCE_SCALE}"),
        )
        if known is None
    ]
    with_these = f", with {', '.join(left)}" if left else ""
    lines.append(
        f"Model evaluations, one per image and step or more: {evaluations(filled.cells)}"
        f"{with_these}. Images that were drawn before are not drawn again."
    )
    sheets = sheets_of(sweep)
    lines.append(
        "FiT Compare Sheet puts them on one sheet."
        if sheets == 1
        else f"FiT Compare Sheet puts them on {sheets} sheets: on fewer they would be too small."
    )
    return lines


def sheets_of(sweep: Sweep) -> int:
    """The number of sheets that FiT Compare Sheet makes of a sweep, as it is set at first."""
    cells = []
    for cell in sweep.cells:
        size = cell.resolution.width, cell.resolution.height
        cells.append(SheetCell(Blank(*size), describe_size(*size)))
    width = len(sweep.columns)
    grid = [cells[i : i + width] for i in range(0, len(cells), width)]
    return count_sheets(grid, sweep.rows, sweep.columns)

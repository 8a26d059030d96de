"""A sweep as data: its cells, the axes that they come from, and the names of rows and columns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..comfyui_fitv2.extrapolation import Extrapolation
from ..comfyui_fitv2.labels import Blend, Label
from ..comfyui_fitv2.resolution import Resolution
from ..comfyui_fitv2.solvers import SOLVERS

SIZES = "sizes"
AXES = (
    "classes",
    "checkpoints",
    "methods",
    "attention scales",
    SIZES,
    "seeds",
    "steps",
    "solvers",
    "guidance scales",
)
"""All that a sweep can vary, in the order in which it makes rows: the last changes fastest."""
MAX_CELLS = 4096
PACKED_SOLVERS = [name for name, solver in SOLVERS.items() if not solver.adaptive]
"""An adaptive solver picks step sizes from the whole batch, so that a packed image would differ
from one sampled alone."""


@dataclass(frozen=True, slots=True)
class SweepCell:
    """One image of a sweep and its place in the comparison.

    What is None is left to FiT Sweep Sampler.
    """

    row: str
    column: str
    label: Label | Blend
    resolution: Resolution
    extrapolation: Extrapolation
    """What it is for this size, with the model's trained length in it: never "auto"."""
    train_tokens: int
    """The number of tokens that the model was trained on."""
    seed: int | None = None
    steps: int | None = None
    solver: str | None = None
    guidance_scale: float | None = None
    checkpoint: str | None = None
    """A file of FiT Loader to take in place of the MODEL's; None is the MODEL as it is."""

    @property
    def factor(self) -> float:
        """Tokens as a multiple of the trained ones."""
        return self.resolution.length_ratio(self.train_tokens)

    @property
    def side_factor(self) -> float:
        """The longest side as a multiple of the trained one."""
        return self.resolution.side_ratio(self.train_tokens)

    def settings(self, model_checkpoint: str | None) -> dict[str, Any]:
        """All that is known of how the image is made, as JSON: for captions and metadata."""
        width, height = self.resolution.width, self.resolution.height
        known = {
            "checkpoint": self.checkpoint or model_checkpoint,
            "class": str(self.label),
            "size": f"{width} × {height}",
            "width": width,
            "height": height,
            "method": self.extrapolation.method,
            "decoupled": self.extrapolation.decoupled,
            "attention_scale": self.extrapolation.attention_scale,
            "seed": self.seed,
            "steps": self.steps,
            "solver": self.solver,
            "guidance_scale": self.guidance_scale,
        }
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Sweep:
    """Images to compare, row by row; every row has all columns."""

    cells: tuple[SweepCell, ...]
    model_checkpoint: str | None = None
    """The file of the MODEL, where it is known."""

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def filled(self, seed: int, steps: int, solver: str, guidance_scale: float) -> Sweep:
        """The same with these settings where a cell has none of its own."""

        def fill(cell: SweepCell) -> SweepCell:
            return replace(
                cell,
                seed=seed if cell.seed is None else cell.seed,
                steps=cell.steps or steps,
                solver=cell.solver or solver,
                guidance_scale=(
                    guidance_scale if cell.guidance_scale is None else cell.guidance_scale
                ),
            )

        return replace(self, cells=tuple(map(fill, self.cells)))


@dataclass(frozen=True, slots=True)
class Choice:
    """A value of an axis, and what a row or a column with it is called."""

    name: str
    value: Any


Combination = Mapping[str, Any]
"""A value for each axis that has some."""


def combinations(
    axes: Mapping[str, Sequence[Choice]], columns: str
) -> list[tuple[str, str, Combination]]:
    """Row name, column name and values of every cell, row by row.

    ``columns`` is the axis that goes across. Names of rows hold what differs between rows, and the
    class where nothing does. Raises ``ValueError`` for more than ``MAX_CELLS`` cells.
    """
    given = [axis for axis in AXES if axes.get(axis)]
    down = [axis for axis in given if axis != columns]
    across = axes.get(columns) or [Choice("", None)]
    count = len(across)
    for axis in down:
        count *= len(axes[axis])
    if count > MAX_CELLS:
        numbers = " × ".join(f"{len(axes[axis])} {axis}" for axis in given)
        raise ValueError(
            f"{numbers} are {count} images; a sweep has at most {MAX_CELLS}. Shorten a list."
        )
    differing = [axis for axis in down if len(axes[axis]) > 1]
    cells = []
    for choices in itertools.product(*(axes[axis] for axis in down)):
        row = dict(zip(down, choices, strict=True))
        name = " · ".join(row[axis].name for axis in differing or down[:1])
        for column in across:
            values = {axis: choice.value for axis, choice in row.items()}
            if columns in given:
                values[columns] = column.value
            cells.append((name, column.name, values))
    return cells

"""What the FiTv2 paper reports in its Tables II to VI, and how it measured that.

The numbers are in ``paper_numbers.csv``, with their source. The protocol is section V-A of arXiv
2410.13925: 50,000 images of all classes, by the adaptive ODE solver dopri5, with the guidance scale
that a table gives. The paper writes sizes as height × width; here they are width × height.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from comfyui_fitv2.checkpoint import read_checkpoint, read_metadata
from comfyui_fitv2.checkpoint_error import CheckpointError
from comfyui_fitv2.config import PRESETS, FiTConfig
from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.metadata import Metadata

from ..command_line import OptionError
from .metrics import INCEPTION_METRICS

PAPER = "arXiv 2410.13925"
SOLVER = "dopri5"
PER_CLASS, IMAGES = 50, 50_000
TABLES: dict[str, str] = {
    "II": "from FiT-B/2 to FiTv2-B/2",
    "III": "extrapolation methods beyond the trained size",
    "IV": "within the trained size",
    "V": "beyond the trained size",
    "VI": "high-resolution post-training",
}
"""What each table is about."""
_NUMBERS = Path(__file__).with_name("paper_numbers.csv")

_ORIGINAL_B = replace(PRESETS["fitv2-b"], depth=12, adaln_lora_dim=0, mlp_ratio=6.0)
"""The parameters of FiT-B/2 before the paper reassigns them."""
_WITHOUT_NORM = replace(_ORIGINAL_B, qk_norm=False)
_B: dict[str, FiTConfig] = {
    "FiT-B/2": replace(_WITHOUT_NORM, prediction="epsilon"),
    "Config A": _WITHOUT_NORM,
    "Config B": _ORIGINAL_B,
    "Config C": PRESETS["fitv2-b"],
    "Config D": _WITHOUT_NORM,
    "Config E": _ORIGINAL_B,
    "Config F": _ORIGINAL_B,
    "FiTv2-B/2": PRESETS["fitv2-b"],
}
_LARGE: dict[str, str] = {"FiT-XL/2": "fit-xl", "FiTv2-XL/2": "fitv2-xl", "FiTv2-3B/2": "fitv2-3b"}
_NO_ARCHITECTURE = ("num_classes", "in_channels", "train_length", "decoupled")
"""Fields that do not tell one row from another."""


@dataclass(frozen=True, slots=True)
class PaperCell:
    """What the paper reports of one model at one size, with one method and guidance scale."""

    steps: int
    """Training steps."""
    guidance: float
    size: str
    """Width × height, such as "448x224"."""
    extrapolation: str
    """As ``Extrapolation.label``."""
    metrics: dict[str, float]
    """Values by the names in ``INCEPTION_METRICS``; without those that the paper leaves out."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """All that a table of the paper reports of one model."""

    table: str
    """Key of ``TABLES``."""
    name: str
    """The paper's name of the model, such as "FiTv2-XL/2" or "Config A"."""
    cells: tuple[PaperCell, ...]

    @property
    def architecture(self) -> FiTConfig:
        """The model that the numbers are of."""
        if self.table == "II":
            return _B[self.name]
        config = PRESETS[_LARGE[self.name]]
        return replace(config, extrapolation="ntk") if self.table == "VI" else config

    @property
    def sizes(self) -> list[str]:
        return list(dict.fromkeys(cell.size for cell in self.cells))

    @property
    def extrapolations(self) -> list[str]:
        return list(dict.fromkeys(cell.extrapolation for cell in self.cells))

    @property
    def guidance_scales(self) -> list[float]:
        return list(dict.fromkeys(cell.guidance for cell in self.cells))

    @property
    def all_steps(self) -> list[int]:
        """The training steps after which the paper measured, rising."""
        return sorted({cell.steps for cell in self.cells})

    def cell(self, steps: int, guidance: float, size: str, extrapolation: str) -> PaperCell | None:
        """The cell with these values; None where the paper has none."""
        wanted = steps, guidance, size, extrapolation
        for cell in self.cells:
            if (cell.steps, cell.guidance, cell.size, cell.extrapolation) == wanted:
                return cell
        return None


def paper_rows(table: str) -> list[PaperRow]:
    """The models of a table, in the paper's order. Raises ``KeyError`` for another table."""
    if table not in TABLES:
        raise KeyError(table)
    found: dict[str, list[PaperCell]] = {}
    lines = _NUMBERS.read_text(encoding="utf-8").splitlines()
    for line in csv.DictReader(line for line in lines if not line.startswith("#")):
        if line["table"] == table:
            found.setdefault(line["row"], []).append(
                PaperCell(
                    int(line["steps"]),
                    float(line["guidance"]),
                    f"{line['width']}x{line['height']}",
                    Extrapolation.parse(line["extrapolation"]).label,
                    {name: float(line[name]) for name in INCEPTION_METRICS if line[name]},
                )
            )
    return [PaperRow(table, name, tuple(cells)) for name, cells in found.items()]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A checkpoint, and the row of the paper that it is compared with."""

    row: PaperRow
    metadata: Metadata | None
    """What the checkpoint says of itself; None before one is named."""
    guidance_scales: tuple[float, ...]
    """The paper's, or the one that was asked for."""

    @property
    def trained_steps(self) -> int | None:
        """The steps that the checkpoint was trained for, where it says so."""
        steps = self.metadata.training.get("step") if self.metadata else None
        return steps if isinstance(steps, int) else None

    @property
    def paper_steps(self) -> int:
        """Those of the paper's steps that the comparison is with: equal ones, or the fewest."""
        known = self.row.all_steps
        return self.trained_steps if self.trained_steps in known else known[0]

    @property
    def same_architecture(self) -> bool:
        return self.metadata is None or _is_same(self.metadata.config, self.row.architecture)

    def options(self) -> list[list[str]]:
        """The command-line words of the paper's protocol, once per guidance scale."""
        row = self.row
        fixed = ["--sizes", *row.sizes, "--extrapolations", *row.extrapolations]
        fixed += ["--solver", SOLVER, "--count", str(PER_CLASS)]
        return [[*fixed, "--guidance-scale", f"{scale:g}"] for scale in self.guidance_scales]


def comparison(words: Sequence[str]) -> Comparison | None:
    """The comparison that a command line asks for with --table; None without it.

    Without --row it is the model of the checkpoint's architecture, or the only one of the table.
    Raises ``OptionError`` on a table or a row that does not exist, and where several rows or none
    fit; ``FileNotFoundError`` and ``CheckpointError`` where the checkpoint cannot be read.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--table")
    own.add_argument("--row")
    own.add_argument("--checkpoint", type=Path)
    own.add_argument("--preset")
    own.add_argument("--guidance-scale", "--guidance_scale", "--guidance", type=float)
    try:
        asked = own.parse_known_args(words)[0]
    except argparse.ArgumentError as error:
        raise OptionError(str(error)) from None
    if asked.table is None:
        if asked.row is not None:
            raise OptionError("--row belongs to --table: name the table too, such as --table III.")
        return None
    table = asked.table.upper()
    if table not in TABLES:
        about = "; ".join(f"{name}: {what}" for name, what in TABLES.items())
        raise OptionError(f"--table {asked.table}: choose one of {PAPER} ({about}).")
    metadata = _metadata(asked.checkpoint, asked.preset) if asked.checkpoint else None
    row = _row(paper_rows(table), asked.row, metadata)
    scales = row.guidance_scales if asked.guidance_scale is None else [asked.guidance_scale]
    return Comparison(row, metadata, tuple(scales))


def _metadata(checkpoint: Path, preset: str | None) -> Metadata:
    try:
        return read_metadata(checkpoint, preset=preset)
    except CheckpointError:  # a pickle has no header that says it
        return read_checkpoint(checkpoint, preset=preset).metadata


def _row(rows: Sequence[PaperRow], name: str | None, metadata: Metadata | None) -> PaperRow:
    table, names = rows[0].table, [row.name for row in rows]
    if name is not None:
        found = [row for row in rows if row.name.lower() == name.strip().lower()]
        if not found:
            raise OptionError(f"--row {name}: Table {table} has {', '.join(names)}.")
        return found[0]
    if len(rows) == 1 or metadata is None:
        return rows[0]
    fitting = [row for row in rows if _is_same(metadata.config, row.architecture)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        same = ", ".join(row.name for row in fitting)
        raise OptionError(
            f"the checkpoint has the architecture of several rows of Table {table}: {same}. Name "
            f'the one that it was trained as, such as --row "{fitting[0].name}".'
        )
    # By its shapes alone a released file is taken for the model before the post-training.
    released = " A released high-resolution file needs --preset too." if table == "VI" else ""
    raise OptionError(
        f"the checkpoint has the architecture of no row of Table {table}: {', '.join(names)}."
        f'{released} Compare it with one of them all the same, such as --row "{names[-1]}".'
    )


def _is_same(one: FiTConfig, other: FiTConfig) -> bool:
    compared = [f.name for f in fields(FiTConfig) if f.name not in _NO_ARCHITECTURE]
    return all(getattr(one, name) == getattr(other, name) for name in compared)

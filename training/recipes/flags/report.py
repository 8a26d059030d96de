"""Which flags a checkpoint gets right, at which shapes and sizes: a table, sheets to look at, and a plot.

    python -m training.recipes.flags.report                                 the bundled files, all flags; hours on two cores
    python -m training.recipes.flags.report --classes 64 --beyond 16        every fourth flag, and at 1.5x and 2x every sixteenth

A drawn flag counts as right where, among all 256 flags stretched to its size, its own is the nearest: by L2 over RGB, both at a height of
48 pixels. Some flags are one picture under several names; any of those names is right. Pictures are kept in ``--output``: the same command
goes on where it ended.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from comfyui_fitv2.checkpoint import LoadedModel, load_checkpoint
from comfyui_fitv2.contact_sheet import SheetCell, contact_sheet
from comfyui_fitv2.extrapolation import ALL_METHODS, Extrapolation
from comfyui_fitv2.guidance import Guidance
from comfyui_fitv2.labels import Label
from comfyui_fitv2.resolution import Resolution, for_ratio, snap

from ...command_line import run_command
from ...data.sources import evenly
from ...data.vae import TINY_FILE, VAE, fingerprint, open_vae
from ...sample import check_vae, draw_missing
from ...sample.generate import Drawing, Picture, batches
from ...train_vae import psnr
from ...whole_files import temporary_file, write_json
from .flags import NATIVE, Flag, fetch, read_flags

MODEL_FILE = TINY_FILE.parent.parent / "fit" / "fitv2_flags256.safetensors"
_HEIGHT = 48
_SAME = 0.01
"""RMS of RGB in 0..1 below which two flags are one picture."""
_SOLVER, _EVALUATIONS = "ab2", 20
"""ab2 evaluates the model once a step."""
_BEYOND = (1.5, 2.0)
_BATCH_TOKENS = 4096
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Cell:
    """One way of drawing, a line of the table."""

    shape: str
    """A ratio, or "native"."""
    scale: float = 1.0
    """Linear, beyond the trained size."""
    method: str = "none"
    """As ``Extrapolation.parse`` reads it."""
    evaluations: int = _EVALUATIONS

    @property
    def folder(self) -> str:
        return f"{self.shape.replace(':', '-')}_{self.scale:g}x_{self.method.replace(' ', '')}_{self.evaluations}"

    def size(self, flag: Flag, tokens: int) -> Resolution:
        size = flag.native(tokens) if self.shape == NATIVE else for_ratio(self.shape, tokens)
        return (
            size
            if self.scale == 1
            else snap(round(size.width * self.scale), round(size.height * self.scale))
        )


@dataclass(frozen=True, slots=True)
class Score:
    cell: Cell
    flags: int
    top_1: float
    """Part of the flags whose nearest is their own."""
    distance: float
    """Mean RMS of RGB in 0..1 to the own flag."""
    wrong: dict[str, str]
    """The nearest flag of those that are not right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    output: Path
    checkpoint: Path = MODEL_FILE
    vae: Path = TINY_FILE
    flags: Path | None = None
    """The unpacked package; None fetches it into the output."""
    classes: int = 256
    """How many flags are drawn, evenly spread."""
    beyond: int = 256
    """How many at sizes beyond the trained one; 0 leaves these out."""
    guidance: float = 1.0
    methods: str = "; ".join([*ALL_METHODS, "none + pro2", "ntk + pro2"])
    """At sizes beyond the trained one."""
    seed: int = 0
    dtype: str = "bfloat16"
    results: Path | None = None
    """Markdown file to write the table to as well."""

    def cells(self) -> Iterator[Cell]:
        yield from (Cell(NATIVE, evaluations=evaluations) for evaluations in (10, _EVALUATIONS, 50))
        yield from (Cell(shape) for shape in ("1:1", "2:1", "1:2"))
        for scale in _BEYOND if self.beyond else ():
            yield from (
                Cell(NATIVE, scale, Extrapolation.parse(method, 16).label)
                for method in self.methods.split(";")
            )


class Judge:
    """Tells which flag a picture shows."""

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.names = [flag.name for flag in flags]
        self._pictures = [flag.picture(snap(512, 512)) for flag in flags]
        self._known: dict[int, np.ndarray] = {}

    def judge(self, picture: Image.Image, own: int) -> tuple[int, float]:
        """The flag that ``picture`` shows, ``own`` where one of its other names is the nearest, and the RMS of RGB in 0..1 to ``own``."""
        references = self._at(picture)
        distances = _rms(references - _small(picture.convert("RGB"), references.shape[2]))
        nearest = int(distances.argmin())
        same = _rms(references[own : own + 1] - references[nearest])[0] < _SAME
        return own if same else nearest, float(distances[own])

    def _at(self, picture: Image.Image) -> np.ndarray:
        """(flags, 48, width, 3): all of them in the proportions of ``picture``."""
        width = max(round(picture.width * _HEIGHT / picture.height), 1)
        if width not in self._known:
            self._known[width] = np.stack(
                [_small(reference, width) for reference in self._pictures]
            )
        return self._known[width]


def report(options: ReportOptions) -> list[Score]:
    """Draw what is not drawn yet, judge, and write everything. Raises ``ValueError`` or ``OSError`` on what the person can put right."""
    folder = options.flags or options.output / "package"
    fetch(folder)
    flags = read_flags(folder)
    loaded = load_checkpoint(options.checkpoint, dtype=getattr(torch, options.dtype))
    if not loaded.class_names or not {flag.name for flag in flags}.issuperset(loaded.class_names):
        raise ValueError(
            f"{options.checkpoint} does not draw these flags: its classes are named {', '.join((loaded.class_names or ('nothing',))[:3])}, …."
        )
    vae = open_vae(str(options.vae))
    check_vae(loaded, vae, str(options.vae))
    judge = Judge(flags)
    known = {flag.name: flag for flag in flags}
    made_by = (
        fingerprint(str(options.checkpoint)),
        fingerprint(str(options.vae)),
        f"{options.guidance:g}",
        str(options.seed),
        options.dtype,
    )
    drawn = options.output / "-".join(("pictures", *made_by))
    scores, cells = [], []
    for cell in options.cells():
        labels = evenly(
            [Label(i, name) for i, name in enumerate(loaded.class_names)],
            options.beyond if cell.scale > 1 else options.classes,
        )
        pictures = [
            Picture(label.id, label, cell.size(known[label.name or ""], loaded.config.train_tokens))
            for label in labels
        ]
        _draw(options, loaded, vae, cell, pictures, drawn / cell.folder)
        files = [drawn / cell.folder / picture.file_name for picture in pictures]
        scores.append(
            _score(cell, files, [picture.label.name or "" for picture in pictures], judge)
        )
        score = scores[-1]
        print(
            f"{cell.shape} {cell.scale:g}x {cell.method}, {cell.evaluations} evaluations: {score.top_1:.1%} of {score.flags}",
            flush=True,
        )
        cells += [(cell, picture, file) for picture, file in zip(pictures, files, strict=True)]
    _write(options, scores, _reconstruction(vae, evenly(flags, options.classes)))
    _write_sheets(options.output, cells)
    return scores


def _draw(
    options: ReportOptions,
    loaded: LoadedModel,
    vae: VAE,
    cell: Cell,
    pictures: Sequence[Picture],
    folder: Path,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    extrapolation = Extrapolation.parse(cell.method, loaded.config.train_length)
    drawing = Drawing(
        _SOLVER, cell.evaluations, Guidance(options.guidance), extrapolation, options.seed
    )
    # By size, so that pictures of a size share a batch without packing's cost.
    ordered = sorted(pictures, key=lambda picture: (picture.size.width, picture.size.height))
    cut = batches(ordered, _BATCH_TOKENS, packed=False, solver=_SOLVER)
    draw_missing(loaded.model, vae, cut, drawing, folder, packed=False, device=torch.device("cpu"))


def _score(cell: Cell, files: Sequence[Path], names: Sequence[str], judge: Judge) -> Score:
    wrong: dict[str, str] = {}
    distances = []
    for file, name in zip(files, names, strict=True):
        own = judge.names.index(name)
        with Image.open(file) as image:
            nearest, distance = judge.judge(image, own)
        distances.append(distance)
        if nearest != own:
            wrong[name] = judge.names[nearest]
    return Score(cell, len(names), 1 - len(wrong) / len(names), float(np.mean(distances)), wrong)


def _reconstruction(vae: VAE, flags: Sequence[Flag]) -> dict[str, float]:
    """PSNR in dB of each flag there and back through the VAE, at its native size."""
    ratios = {}
    for flag in flags:
        picture = (
            torch.from_numpy(np.asarray(flag.picture(flag.native(256))).copy()).permute(2, 0, 1)[
                None
            ]
            / 255
        )
        ratios[flag.name] = psnr(vae.decode(vae.moments(picture)[:, 0]) - picture)
    return ratios


def _write(options: ReportOptions, scores: Sequence[Score], ratios: dict[str, float]) -> None:
    write_json(
        options.output / "report.json",
        {"scores": [asdict(score) for score in scores], "psnr": ratios},
    )
    text = markdown(options, scores, ratios)
    print(text)
    for path in (options.output / "report.md", *([options.results] if options.results else [])):
        with temporary_file(path) as file:
            file.write(f"{text}\n".encode())
    if options.beyond:
        with temporary_file(options.output / "extrapolation.png") as file:
            plot(scores).savefig(file, format="png", dpi=120)


def markdown(options: ReportOptions, scores: Sequence[Score], ratios: dict[str, float]) -> str:
    """The table, the VAE's line and what was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    ).stdout.strip()
    worst = sorted(ratios, key=lambda name: ratios[name])[:3]
    values = list(ratios.values())
    lines = [
        f"`{options.checkpoint.name}` in {options.dtype}, `{options.vae.name}`, {_SOLVER}, guidance {options.guidance:g}, seed {options.seed}"
        f"{f', commit {commit}' if commit else ''}.",
        "",
        "| shape | linear size | extrapolation | evaluations | flags | top-1 | distance |",
        "|---|---|---|---|---|---|---|",
    ]
    for score in scores:
        cell = score.cell
        lines.append(
            f"| {cell.shape} | {cell.scale:g}× | {cell.method} | {cell.evaluations} | {score.flags} | {score.top_1:.1%} | {score.distance:.3f} |"
        )
    lines += [
        "",
        f"The VAE, there and back at native size: {np.mean(values):.2f} dB in the mean over {len(values)} flags, {sum(v < 26 for v in values)} under 26 dB; "
        f"the least: {', '.join(f'{name} {ratios[name]:.1f}' for name in worst)}.",
    ]
    return "\n".join(lines)


def plot(scores: Sequence[Score]) -> Figure:
    """Top-1 of every method at each size beyond the trained one."""
    beyond = [score for score in scores if score.cell.scale > 1]
    methods = list(dict.fromkeys(score.cell.method for score in beyond))
    figure = Figure(figsize=(8, 0.45 * len(methods) + 1.4), layout="constrained")
    panel = figure.subplots()
    for i, scale in enumerate(_BEYOND):
        values = {
            score.cell.method: 100 * score.top_1 for score in beyond if score.cell.scale == scale
        }
        places = [place + (i - 0.5) * 0.38 for place in range(len(methods))]
        bars = panel.barh(
            places,
            [values[method] for method in methods],
            0.36,
            label=f"{scale:g}× linear size",
            color=("#2a6f97", "#f4a259")[i],
        )
        panel.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    panel.set_yticks(range(len(methods)), methods)
    panel.invert_yaxis()
    panel.set_xlim(0, 105)
    panel.set_xlabel(f"flags drawn right, % of {beyond[0].flags}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9)
    return figure


def _write_sheets(output: Path, cells: Sequence[tuple[Cell, Picture, Path]]) -> None:
    shapes = [
        (cell, picture, file)
        for cell, picture, file in cells
        if cell.scale == 1 and cell.evaluations == _EVALUATIONS
    ]
    native = [picture.label.id for cell, picture, _ in shapes if cell.shape == NATIVE]
    _write_sheet(
        output / "shapes.png",
        "20 evaluations",
        [(c.shape, p, f) for c, p, f in shapes if p.label.id in evenly(native, _SHOWN)],
    )
    for scale in _BEYOND:
        drawn = [(cell, picture, file) for cell, picture, file in cells if cell.scale == scale]
        shown = evenly(
            list(dict.fromkeys(picture.label.id for _, picture, _ in drawn)), _SHOWN // 2
        )
        _write_sheet(
            output / f"beyond-{scale:g}x.png",
            f"{scale:g} times the trained size",
            [(c.method, p, f) for c, p, f in drawn if p.label.id in shown],
        )
    _write_sheet(
        output / "all.png",
        "",
        [("", p, f) for c, p, f in shapes if c.shape == NATIVE],
        cell_side=96,
    )


def _write_sheet(
    path: Path, title: str, drawn: Sequence[tuple[str, Picture, Path]], cell_side: int = 160
) -> None:
    """Flags in rows; without columns, 16 in a row."""
    cells = []
    for i, (column, picture, file) in enumerate(drawn):
        with Image.open(file) as image:
            row, head = (picture.label.name or "", column) if column else (" " * (i // 16 + 1), "")
            cells.append(
                SheetCell(
                    image.convert("RGB"),
                    row,
                    head or " " * (i % 16 + 1),
                    "" if column else (picture.label.name or "")[:18],
                )
            )
    if cells:
        with temporary_file(path) as file:
            contact_sheet(cells, title, cell_side=cell_side).save(file, "PNG")


def _small(picture: Image.Image, width: int) -> np.ndarray:
    return np.asarray(picture.resize((width, _HEIGHT), Image.Resampling.BOX), np.float32) / 255


def _rms(differences: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(differences).mean(axis=(1, 2, 3)))


def main(argv: Sequence[str] | None = None) -> int:
    fields = ReportOptions.__dataclass_fields__
    parser = argparse.ArgumentParser(
        prog="python -m training.recipes.flags.report",
        description="Which flags a checkpoint gets right.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/flags/report"),
        help="folder of pictures, table, sheets and plot (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=fields["checkpoint"].default,
        help="(default: the bundled one)",
    )
    parser.add_argument(
        "--vae", type=Path, default=fields["vae"].default, help="(default: the bundled one)"
    )
    parser.add_argument(
        "--flags", type=Path, help="the unpacked package (default: fetched into the output)"
    )
    for name, kind, what in (
        ("classes", int, "flags to draw, evenly spread"),
        ("beyond", int, "flags to draw at 1.5 and 2 times the size, 0 for none"),
        ("guidance", float, "1 is none"),
        ("methods", str, "extrapolations at those sizes, with semicolons between"),
        ("seed", int, "of the noise"),
    ):
        parser.add_argument(
            f"--{name}",
            type=kind,
            default=fields[name].default,
            help=f"{what} (default: %(default)s)",
        )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float32"),
        default=fields["dtype"].default,
        help="of the model (default: %(default)s)",
    )
    parser.add_argument("--results", type=Path, help="Markdown file for the table as well")
    options = vars(parser.parse_args(argv))

    def command() -> None:
        report(ReportOptions(**options))

    return run_command(command, "The same command goes on from here.")


if __name__ == "__main__":
    raise SystemExit(main())

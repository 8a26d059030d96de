"""Which flags a checkpoint gets right, at which shapes and sizes: a table, sheets and a plot.

    python -m training.recipes.flags.report
        the bundled files and all flags: hours on two cores
    python -m training.recipes.flags.report --classes 64 --beyond 16
        every fourth flag, and every sixteenth at 1.5 and 2 times the size

A generated flag counts as right if its own is the nearest of all 256 flags at its size, by L2 over
RGB, both at a height of 48 pixels. Some flags are the same image under several names; each of those
names counts as right. *Raggedness* is how far the image is from that flag as the VAE alone would
show it: mean absolute error of RGB in 0..1, at full size. Generated images are stored in
``--output``, and the same command resumes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from comfyui_fitv2.extrapolation import ALL_METHODS, AUTO, Extrapolation
from comfyui_fitv2.labels import split_list
from sheets.contact_sheet import SheetCell, by_name, contact_sheet

from ...command_line import parse_options, run_command
from ...data.sources import evenly
from ...whole_files import write_json, write_text, write_whole
from .bench import EVALUATIONS, Bench, BenchOptions, Cell, Generated, Score
from .flags import NATIVE

_SHAPES = ("1:1", "2:1", "3:1", "1:2", "1:3")
_BEYOND = (1.5, 2.0)
_SHOWN = 12
_PER_ROW = 16
_POOR_DB = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions(BenchOptions):
    """Options of the report."""

    classes: int = 256
    """Number of flags to generate, spread evenly."""
    beyond: int = 256
    """Number of flags to generate at 1.5 and 2 times the size; 0 leaves these sizes out."""
    methods: tuple[str, ...] = (AUTO, *ALL_METHODS, "none + pro2", "ntk + pro2")
    """Extrapolation methods at sizes beyond the trained one. Semicolons separate too."""
    results: Path | None = None
    """Markdown file to which the table is written too."""

    def cells(self) -> Iterator[Cell]:
        """The lines of the table."""
        yield from (
            Cell(NATIVE, evaluations=evaluations) for evaluations in (EVALUATIONS, 2 * EVALUATIONS)
        )
        yield from (Cell(shape) for shape in _SHAPES)
        methods = [Extrapolation.parse(text).label for text in split_list(";".join(self.methods))]
        for scale in _BEYOND if self.beyond else ():
            yield from (Cell(NATIVE, scale, method) for method in methods)


def report(options: ReportOptions) -> list[Score]:
    """Generate the images that are missing, judge all, and write the results.

    Raises ``ValueError`` or ``OSError`` on a user's error.
    """
    bench = Bench(options)
    scores: list[Score] = []
    generated: list[Generated] = []
    for cell in options.cells():
        own = bench.draw(cell, options.beyond if cell.scale > 1 else options.classes)
        scores.append(bench.score(cell, own))
        generated += own
    tokens = bench.sampler.loaded.config.train_tokens
    of_vae = {
        flag.name: bench.raggedness.of_vae(flag, flag.native(tokens))
        for flag in evenly(bench.flags, options.classes)
    }
    _write(options, scores, of_vae)
    _write_sheets(options.output, generated)
    return scores


def _write(options: ReportOptions, scores: Sequence[Score], ratios: dict[str, float]) -> None:
    results = {"scores": [asdict(score) for score in scores], "psnr": ratios}
    write_json(options.output / "report.json", results)
    text = markdown(options, scores, ratios)
    print(text)
    for path in filter(None, (options.output / "report.md", options.results)):
        write_text(path, f"{text}\n")
    if options.beyond:
        with write_whole(options.output / "extrapolation.png") as temporary:
            plot(scores).savefig(temporary, format="png", dpi=120)


def markdown(options: ReportOptions, scores: Sequence[Score], ratios: dict[str, float]) -> str:
    """What was measured, the table, and the line of the VAE."""
    lines = [
        *options.made_with,
        "",
        "| shape | linear size | extrapolation | evaluations | flags | top-1 | distance "
        "| raggedness | PSNR |",
        f"|{'---|' * 9}",
    ]
    for score in scores:
        cell = score.cell
        lines.append(
            f"| {cell.shape} | {cell.scale:g}× | {cell.method} | {cell.evaluations} "
            f"| {score.flags} | {score.top_1:.1%} | {score.distance:.3f} "
            f"| {score.raggedness:.4f} | {score.psnr:.1f} dB |"
        )
    values = list(ratios.values())
    lowest = sorted(ratios, key=lambda name: ratios[name])[:3]
    lines += [
        "",
        f"Reconstruction by the VAE at native size: {np.mean(values):.2f} dB on average over "
        f"{len(values)} flags, {sum(value < _POOR_DB for value in values)} below {_POOR_DB} dB;",
        f"the lowest: {', '.join(f'{name} {ratios[name]:.1f}' for name in lowest)}.",
    ]
    return "\n".join(lines)


def plot(scores: Sequence[Score]) -> Figure:
    """Top-1 of every method at each size beyond the trained one."""
    beyond = [score for score in scores if score.cell.scale > 1]
    methods = list(dict.fromkeys(score.cell.method for score in beyond))
    figure = Figure(figsize=(8, 0.45 * len(methods) + 1.4), layout="constrained")
    panel = figure.subplots()
    for i, scale in enumerate(_BEYOND):
        top_1 = {score.cell.method: score.top_1 for score in beyond if score.cell.scale == scale}
        bars = panel.barh(
            [place + (i - 0.5) * 0.38 for place in range(len(methods))],
            [100 * top_1[method] for method in methods],
            0.36,
            label=f"{scale:g}× linear size",
            color=("#2a6f97", "#f4a259")[i],
        )
        panel.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    panel.set_yticks(range(len(methods)), methods)
    panel.invert_yaxis()
    panel.set_xlim(0, 105)
    panel.set_xlabel(f"flags that are right, % of {beyond[0].flags}")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9)
    return figure


def _write_sheets(output: Path, generated: Sequence[Generated]) -> None:
    shapes = [
        image
        for image in generated
        if image.cell.scale == 1 and image.cell.evaluations == EVALUATIONS
    ]
    native = [image for image in shapes if image.cell.shape == NATIVE]
    shown = {image.name for image in evenly(native, _SHOWN)}
    columns = [(image.cell.shape, image) for image in shapes if image.name in shown]
    _write_table_sheet(output / "shapes.png", f"{EVALUATIONS} evaluations", columns)
    for scale in _BEYOND:
        beyond = [image for image in generated if image.cell.scale == scale]
        names = list(dict.fromkeys(image.name for image in beyond))
        shown = set(evenly(names, _SHOWN // 2))
        columns = [(image.cell.method, image) for image in beyond if image.name in shown]
        title = f"{scale:g} times the trained size"
        _write_table_sheet(output / f"beyond-{scale:g}x.png", title, columns)
    cells = [SheetCell(_read(image.file), image.name[:18]) for image in native]
    rows = [cells[i : i + _PER_ROW] for i in range(0, len(cells), _PER_ROW)]
    with write_whole(output / "all.png") as temporary:
        contact_sheet(rows, cell_side=96).save(temporary, "PNG")


def _write_table_sheet(path: Path, title: str, columns: Sequence[tuple[str, Generated]]) -> None:
    """A sheet with a row per flag, from pairs of column name and image."""
    if columns:
        cells = [(image.name, column, SheetCell(_read(image.file))) for column, image in columns]
        with write_whole(path) as temporary:
            sheet = contact_sheet(*by_name(cells), title=title, cell_side=160)
            sheet.save(temporary, "PNG")


def _read(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.recipes.flags.report``; returns the exit status."""

    def command() -> None:
        options = parse_options(
            ReportOptions,
            argv,
            prog="python -m training.recipes.flags.report",
            description="Which flags a checkpoint gets right.",
        )
        report(options)

    return run_command(command, "The same command resumes from here.")


if __name__ == "__main__":
    raise SystemExit(main())

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

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from PIL import Image

from comfyui_fitv2.config import PRECISIONS
from comfyui_fitv2.extrapolation import ALL_METHODS, AUTO, Extrapolation
from comfyui_fitv2.guidance import Guidance
from comfyui_fitv2.labels import Label, parts_of, split_list
from comfyui_fitv2.pixels import from_bytes, psnr
from comfyui_fitv2.resolution import Resolution, for_ratio, snap
from sheets.contact_sheet import SheetCell, by_name, contact_sheet

from ...command_line import parse_options, run_command
from ...data.bundled import BUNDLED_CHECKPOINT, TINY_FILE
from ...data.sources import evenly
from ...data.vae import VAE
from ...sample.generate import Request, SamplingSettings, batches
from ...sample.sampler import Sampler
from ...whole_files import write_json, write_text, write_whole
from .flags import NATIVE, Flag, fetch, read_flags
from .judging import Judge, Raggedness

_SOLVER, _EVALUATIONS = "ab2", 20
"""ab2 evaluates the model once per step."""
_SHAPES = ("1:1", "2:1", "3:1", "1:2", "1:3")
_BEYOND = (1.5, 2.0)
_BATCH_TOKENS = 4096
_SHOWN = 12
_PER_ROW = 16
_POOR_DB = 26


@dataclass(frozen=True, slots=True)
class Cell:
    """One way of generating, a line of the table."""

    shape: str
    """A ratio, or "native"."""
    scale: float = 1.0
    """Side as a multiple of that at the trained size."""
    method: str = AUTO
    """Extrapolation, as ``Extrapolation.parse`` reads it."""
    evaluations: int = _EVALUATIONS

    @property
    def folder(self) -> str:
        """Name of the folder of its images."""
        shape, method = self.shape.replace(":", "-"), self.method.replace(" ", "")
        return f"{shape}_{self.scale:g}x_{method}_{self.evaluations}"

    def size(self, flag: Flag, tokens: int) -> Resolution:
        """The size of an image, for a model that was trained on ``tokens``."""
        size = flag.native(tokens) if self.shape == NATIVE else for_ratio(self.shape, tokens)
        if self.scale == 1:
            return size
        return snap(round(size.width * self.scale), round(size.height * self.scale))


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a cell."""

    cell: Cell
    flags: int
    top_1: float
    """Fraction of the flags whose nearest is their own."""
    distance: float
    """Mean RMS of RGB in 0..1 to the own flag, both at a height of 48 pixels."""
    raggedness: float
    """Mean absolute error of RGB in 0..1 to the nearest flag, after encode and decode."""
    psnr: float
    """Mean PSNR in dB to the same."""
    wrong: dict[str, str]
    """The nearest flag of each flag that is not right."""


@dataclass(frozen=True, slots=True)
class Generated:
    """An image that was generated, and how."""

    cell: Cell
    request: Request
    file: Path

    @property
    def name(self) -> str:
        """Name of the flag."""
        [(label, _)] = parts_of(self.request.label)
        return label.name or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Options of the report."""

    output: Path = Path("runs/flags/report")
    """Folder for images, table, sheets and plot. The same command resumes where it stopped."""
    checkpoint: Path = BUNDLED_CHECKPOINT
    """A checkpoint of flags; by default the bundled one."""
    vae: Path = TINY_FILE
    """The VAE of its latents; by default the bundled one."""
    flags: Path | None = None
    """The unpacked package of flags; by default it is fetched into the output folder."""
    classes: int = 256
    """Number of flags to generate, spread evenly."""
    beyond: int = 256
    """Number of flags to generate at 1.5 and 2 times the size; 0 leaves these sizes out."""
    guidance_scale: Annotated[float, tyro.conf.arg(aliases=("--guidance",))] = 1.0
    """Scale of classifier-free guidance; 1 is none."""
    methods: tuple[str, ...] = (AUTO, *ALL_METHODS, "none + pro2", "ntk + pro2")
    """Extrapolation methods at sizes beyond the trained one. Semicolons separate too."""
    seed: int = 0
    """Seed of the noise."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of the model."""
    results: Path | None = None
    """Markdown file to which the table is written too."""

    @property
    def dtype(self) -> str:
        """The name of the precision in tables and folders, such as bfloat16."""
        return str(PRECISIONS[self.precision]).removeprefix("torch.")

    def cells(self) -> Iterator[Cell]:
        """The lines of the table."""
        yield from (Cell(NATIVE, evaluations=evaluations) for evaluations in (10, _EVALUATIONS, 50))
        yield from (Cell(shape) for shape in _SHAPES)
        methods = [Extrapolation.parse(text).label for text in split_list(";".join(self.methods))]
        for scale in _BEYOND if self.beyond else ():
            yield from (Cell(NATIVE, scale, method) for method in methods)


def report(options: ReportOptions) -> list[Score]:
    """Generate the images that are missing, judge all, and write the results.

    Raises ``ValueError`` or ``OSError`` on a user's error.
    """
    folder = options.flags or options.output / "package"
    fetch(folder)
    flags = read_flags(folder)
    sampler = Sampler.open(
        options.checkpoint,
        str(options.vae),
        precision=options.precision,
        device=torch.device("cpu"),
    )
    class_names = sampler.loaded.class_names or ()
    by_flag_name = {flag.name: flag for flag in flags}
    if not class_names or not by_flag_name.keys() >= set(class_names):
        names = ", ".join((*class_names, "none")[:3])
        raise ValueError(f"{options.checkpoint} has other classes than these flags: {names}, ….")
    settings = (f"{options.guidance_scale:g}", str(options.seed), options.dtype)
    made_by = (sampler.checkpoint_digest, sampler.vae_digest, *settings)
    images = options.output / "-".join(("pictures", *made_by))  # the name in earlier versions
    judge, raggedness = Judge(flags), Raggedness(flags, sampler.vae)
    labels = [Label(i, name) for i, name in enumerate(class_names)]
    tokens = sampler.loaded.config.train_tokens
    scores: list[Score] = []
    generated: list[Generated] = []
    for cell in options.cells():
        # With its class id as the index, a flag has the same noise whichever flags are chosen.
        requests = [
            Request(label.id, label, cell.size(by_flag_name[label.name or ""], tokens))
            for label in evenly(labels, options.beyond if cell.scale > 1 else options.classes)
        ]
        _generate(options, sampler, cell, requests, images / cell.folder)
        own = [Generated(cell, r, images / cell.folder / r.file_name) for r in requests]
        score = _score(cell, own, judge, raggedness)
        print(
            f"{cell.shape} {cell.scale:g}x {cell.method}, {cell.evaluations} evaluations: "
            f"{score.top_1:.1%} of {score.flags}, raggedness {score.raggedness:.4f}",
            flush=True,
        )
        scores.append(score)
        generated += own
    _write(options, scores, _reconstruction(sampler.vae, evenly(flags, options.classes)))
    _write_sheets(options.output, generated)
    return scores


def _generate(
    options: ReportOptions, sampler: Sampler, cell: Cell, requests: Sequence[Request], folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    guidance, extrapolation = Guidance(options.guidance_scale), Extrapolation.parse(cell.method)
    settings = SamplingSettings(_SOLVER, cell.evaluations, guidance, extrapolation, options.seed)
    # Sorted, so that images of one size share a batch, without the cost of packing.
    ordered = sorted(requests, key=lambda request: (request.size.width, request.size.height))
    cut = batches(ordered, _BATCH_TOKENS, packed=False, solver=_SOLVER)
    sampler.write_missing(cut, settings, folder, packed=False)


def _score(
    cell: Cell, generated: Sequence[Generated], judge: Judge, raggedness: Raggedness
) -> Score:
    wrong: dict[str, str] = {}
    measures = []
    for image in generated:
        own = judge.names.index(image.name)
        with Image.open(image.file) as opened:
            nearest, distance = judge.judge(opened, own)
            measures.append((distance, *raggedness.measure(opened, nearest)))
        if nearest != own:
            wrong[image.name] = judge.names[nearest]
    count = len(generated)
    distance, error, ratio = (float(mean) for mean in np.mean(measures, axis=0))
    return Score(cell, count, 1 - len(wrong) / count, distance, error, ratio, wrong)


def _reconstruction(vae: VAE, flags: Sequence[Flag]) -> dict[str, float]:
    """PSNR in dB of the VAE's reconstruction of each flag at its native size."""
    ratios = {}
    for flag in flags:
        image = from_bytes(np.asarray(flag.image(flag.native(256))))[None]
        ratios[flag.name] = psnr(vae.decode(vae.moments(image)[:, 0]), image)
    return ratios


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
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    ).stdout.strip()
    at_commit = f", commit {commit}" if commit else ""
    lines = [
        f"`{options.checkpoint.name}` in {options.dtype}, `{options.vae.name}`,",
        f"{_SOLVER}, guidance {options.guidance_scale:g}, seed {options.seed}{at_commit}.",
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
        if image.cell.scale == 1 and image.cell.evaluations == _EVALUATIONS
    ]
    native = [image for image in shapes if image.cell.shape == NATIVE]
    shown = {image.name for image in evenly(native, _SHOWN)}
    columns = [(image.cell.shape, image) for image in shapes if image.name in shown]
    _write_table_sheet(output / "shapes.png", f"{_EVALUATIONS} evaluations", columns)
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

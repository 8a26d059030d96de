"""The page of a study: text, tables and plots in one folder, with the command that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..whole_files import write_json, write_text, write_whole
from .config import CONVERGENCE, ScalingConfig
from .curves import Curve, models_of, variants_of
from .distances import Quality
from .findings import plotted, sections, table
from .plots import curves_plot, ends_plot

PAGE_FILE, JSON_FILE = "README.md", "results.json"
ENDS_PLOT, SAMPLES = "ends.png", "samples.png"


@dataclass(frozen=True, slots=True)
class About:
    """What the page says of its origin."""

    command: str
    """The command line."""
    threads: int
    """CPU threads of PyTorch."""
    floors: dict[str, dict[str, Quality]]
    """By held-out set and kind of image, what drawings reach themselves."""
    planned: int
    """Number of runs of the whole study."""
    data: str = ""
    """Name of the latent set that the user gave to train on; empty: drawings were drawn."""


def write_page(curves: Sequence[Curve], config: ScalingConfig, about: About, folder: Path) -> None:
    """Write the page, the plots and the results as JSON into ``folder``, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / JSON_FILE,
        {"about": asdict(about), "curves": [asdict(curve) for curve in curves]},
    )
    models = models_of(curves)
    variants = variants_of(models)
    figures = {
        f"{part}.png": curves_plot(shown, variants=variants, by_steps=part == CONVERGENCE)
        for part, shown in plotted(models, config.compared).items()
    }
    for name, figure in {**figures, ENDS_PLOT: ends_plot(models)}.items():
        with write_whole(folder / name) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    write_text(folder / PAGE_FILE, f"{markdown(curves, config, about)}\n")


def markdown(curves: Sequence[Curve], config: ScalingConfig, about: About) -> str:
    """The text of the page."""
    hours = sum(curve.cpu_seconds for curve in curves) / 3600
    seeds = ", ".join(str(seed) for seed in sorted({curve.seed for curve in curves}))
    unfinished = (
        [f"**Not finished: {len(curves)} of {about.planned} runs.**", ""]
        if len(curves) < about.planned
        else []
    )
    lines = [
        "# FiTv2's claims, measured with small models",
        "",
        *unfinished,
        f"Made by `{about.command}`. {len(curves)} runs, seeds {seeds}, {hours:.1f} hours of CPU "
        f"time for training; threads of PyTorch: {about.threads}.",
        "",
        "A figure with ± is the mean over the seeds and their standard deviation. A difference is "
        "called one only where its 95 % interval (Welch's, of Student's t) leaves out 0, and a "
        "ratio where its interval, in brackets, leaves out 1. One interval in twenty does so by "
        "chance.",
        "",
        *(_samples(curves[0].seed) if config.distances and about.floors else []),
        *sections(models_of(curves), config.compared),
        "",
        f"![Losses, distances and errors at the end of training]({ENDS_PLOT})",
        "",
        *_measures(config, about),
        *_remarks(config.remarks),
    ]
    return "\n".join(lines)


def _samples(seed: int) -> list[str]:
    return [
        f"![Images of every model]({SAMPLES})",
        "",
        f"Images of the same classes from the same noise, by every model with the seed {seed}.",
        "",
    ]


def _measures(config: ScalingConfig, about: About) -> list[str]:
    drawings = config.drawings
    drawn = (
        f"{drawings.count:,} drawings of textured shapes, sides from 1:2 to 2:1, at most "
        f"{drawings.image_size}² pixels"
    )
    lines = [
        "## What was measured",
        "",
        f"- Training: {f'the latent set {about.data}' if about.data else drawn}. {_shared(config)}",
        f"- Held-out loss: the squared error of the velocity on other drawings, at "
        f"{config.held_out_times} times of the logit-normal distribution, with the same noise for "
        "all models. Version 1 learns noise at uniform times; its loss is that of the velocity "
        "that its noise means. Nothing is extrapolated.",
    ]
    for name, held_out in ({} if about.data else config.held_out).items():
        ratio = (
            f"{held_out.least:g}"
            if held_out.least == held_out.most
            else (f"{held_out.least:g} to {held_out.most:g}")
        )
        lines.append(
            f"  - {name}: {held_out.count} drawings of at most {held_out.image_size}² pixels, the "
            f"longer side {ratio} times the shorter one"
            + (f"; images of {held_out.sample} are generated." if held_out.sample else ".")
        )
    if config.distances is not None and about.floors:
        lines += [
            "- Distance and error: a small network that was trained to tell the classes of "
            "drawings apart compares generated images with "
            f"{config.distances.references} held-out drawings. The distance is Fréchet's, of its "
            "features; the error is the share of images that it takes for another class. "
            f"{config.distances.per_class} images per class, {config.distances.steps} steps of "
            f"Euler's method (DDIM for version 1), guidance {config.distances.guidance:g}. "
            "Drawings that are measured like generated images reach:",
            "",
            *_floors(about.floors),
        ]
    return lines


def _shared(config: ScalingConfig) -> str:
    """What the trainings of all models have in common."""
    first = config.training_of(config.runs[0], Path("data"), Path("output"))
    rate, decay = first.optimizer.learning_rate, first.ema_decays[0]
    budget = f"{first.batch.token_budget:,} tokens a step, " * (first.batch.packing == "packed")
    kinds = {"adamw": "AdamW", "muon": "Muon and AdamW"}
    return (
        f"All models: {budget}{kinds[first.optimizer.kind]}, the learning rate {rate:g} "
        f"({first.optimizer.schedule}); the moving average with the decay {decay:g} is measured."
    )


def _remarks(remarks: Sequence[str]) -> list[str]:
    return ["", "## Remarks", "", *(f"- {remark}" for remark in remarks)] if remarks else []


def _floors(floors: dict[str, dict[str, Quality]]) -> list[str]:
    kinds = next(iter(floors.values()))
    head = ["drawings", *(f"{kind}: {what}" for kind in kinds for what in ("distance", "error"))]
    rows = [
        [name, *(x for q in qualities.values() for x in (f"{q.distance:.2f}", f"{q.error:.3f}"))]
        for name, qualities in floors.items()
    ]
    return table(head, rows)

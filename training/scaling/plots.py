"""The plots of a study. Bands and bars show the standard deviation of the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .curves import MEASURES, Measure, Model

_LABELS: dict[Measure, str] = {
    "loss": "held-out loss (velocity)",
    "distance": "feature distance of generated images",
    "error": "share of generated images of another class",
}
_STYLES = ("-", "--", ":", "-.")


def curves_plot(models: Sequence[Model]) -> Figure:
    """Every measure over compute, and over steps."""
    measured: list[Measure] = [
        m for m in MEASURES if all(c.track(m) for model in models for c in model.curves)
    ]
    figure = Figure(figsize=(11, 4.4 * len(measured)), layout="constrained")
    grid = figure.subplots(len(measured), 2, sharey="row", squeeze=False)
    variants = list(dict.fromkeys(model.variant for model in models))
    sizes = list(dict.fromkeys(model.size for model in models))
    # Sizes of one variant are told apart by colour, variants of one size by colour and style.
    keys = [(model.variant, model.size) for model in models]
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, len(keys)))
    for model, (panels, measure) in product(models, zip(grid, measured, strict=True)):
        colour = colours[keys.index((model.variant, model.size))]
        style = _STYLES[variants.index(model.variant) % len(_STYLES)]
        label = f"{model.name} ({model.mean.parameters / 1e6:.2g} M)"
        points = [point for point, _ in model.mean.track(measure)]
        values = np.array([[v for _, v in curve.track(measure)] for curve in model.curves])
        mean = values.mean(0)
        for panel, x in zip(
            panels, ([p.flops for p in points], [p.step for p in points]), strict=True
        ):
            panel.set_xscale("log")
            panel.set_yscale("linear" if measure == "error" else "log")  # an error may be 0
            panel.plot(x, mean, style, color=colour, label=label, lw=1.3, marker=".", ms=4)
            if len(values) > 1:
                band = values.std(0, ddof=1)
                panel.fill_between(x, mean - band, mean + band, color=colour, alpha=0.2, lw=0)
    for panels, measure in zip(grid, measured, strict=True):
        for panel, name in zip(panels, ("training compute (FLOPs)", "training steps"), strict=True):
            panel.set_xlabel(name)
            panel.grid(visible=True, which="both", alpha=0.2)
            panel.spines[["top", "right"]].set_visible(False)
            panel.yaxis.set_major_formatter("{x:.2f}")
            panel.yaxis.set_minor_formatter("{x:.2f}")
        panels[1].xaxis.set_major_formatter("{x:,.0f}")
        panels[1].xaxis.set_minor_formatter("")
        panels[0].set_ylabel(_LABELS[measure])
    grid[0, 1].legend(fontsize=7, frameon=False, ncols=1 + (len(models) > 8))
    figure.suptitle(_seeds(models, sizes), fontsize=9)
    return figure


def ends_plot(models: Sequence[Model]) -> Figure:
    """Every measure at the end of training, a panel per held-out set."""
    first = models[0].curves[0]
    panels: list[tuple[Measure, str]] = [
        (measure, name) for measure in MEASURES for name in first.ends(measure)
    ]
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    height = rows * (1.0 + 0.28 * len(models))
    figure = Figure(figsize=(4.2 * columns, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    for axis, (measure, name) in zip(axes, panels, strict=False):
        _dots(axis, models, measure, name)
        axis.set_title(f"{measure}: {name}", fontsize=9)
    for axis in list(axes)[len(panels) :]:
        axis.set_visible(False)
    return figure


def _dots(axis: Axes, models: Sequence[Model], measure: Measure, name: str) -> None:
    """Every run a dot, and mean and standard deviation of each model a bar."""
    for row, model in enumerate(reversed(models)):
        spread = model.end(measure, name)
        axis.errorbar(
            spread.mean, row, xerr=spread.deviation, fmt="|", color="#333", capsize=3, ms=9
        )
        axis.plot(spread.values, [row] * len(spread.values), ".", color="#1f77b4", alpha=0.7)
    axis.set_yticks(range(len(models)), [model.name for model in reversed(models)], fontsize=8)
    axis.grid(visible=True, axis="x", alpha=0.2)
    axis.spines[["top", "right"]].set_visible(False)


def _seeds(models: Sequence[Model], sizes: Sequence[str]) -> str:
    seeds = sorted({curve.seed for model in models for curve in model.curves})
    sizes_said = f"sizes {', '.join(sizes)}; " if len(sizes) > 1 else ""
    return f"{sizes_said}seeds {', '.join(map(str, seeds))}; bands: standard deviation of the seeds"

"""The plots of a study. Bands and bars show the standard deviation of the seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from .curves import MEASURES, Measure, Model, variants_of

_LABELS: dict[Measure, str] = {
    "loss": "held-out loss (velocity)",
    "distance": "feature distance of generated images",
    "error": "share of generated images of another class",
}
_FORMATS: dict[Measure, str] = {"loss": "{x:.2f}", "distance": "{x:.0f}", "error": "{x:.1f}"}
_STYLES = ("-", "--", ":", "-.")
_COLOURS = colormaps["tab10"].colors  # type: ignore[attr-defined]
_APART = 1.3
"""Ratio of two steps that have a label each."""


def curves_plot(
    models: Sequence[Model], *, variants: Sequence[str] = (), by_steps: bool = False
) -> Figure:
    """Every measure over compute, a panel each; in a second row over steps if ``by_steps``.

    ``variants`` are all of the study, by which a variant has the same colour in all its plots;
    without it, those of ``models``.
    """
    measured: list[Measure] = [
        m for m in MEASURES if all(c.track(m) for model in models for c in model.curves)
    ]
    rows = 1 + by_steps
    figure = Figure(figsize=(4 * len(measured), 3.6 * rows), layout="constrained")
    grid = figure.subplots(rows, len(measured), sharey="col", squeeze=False)
    styles = _styles(models, variants or variants_of(models))
    for (number, model), (column, measure) in product(enumerate(models), enumerate(measured)):
        label = f"{model.name} ({model.mean.parameters / 1e6:.2g} M)"
        points = [point for point, _ in model.mean.track(measure)]
        values = np.array([[v for _, v in curve.track(measure)] for curve in model.curves])
        for panel, x in zip(
            grid[:, column], ([p.flops for p in points], [p.step for p in points]), strict=False
        ):
            colour, style = styles[number]
            line = {"color": colour, "ls": style, "lw": 1.3, "marker": ".", "ms": 4}
            panel.plot(x, values.mean(0), label=label, **line)
            if len(values) > 1:
                low, high = (values.mean(0) + sign * values.std(0, ddof=1) for sign in (-1, 1))
                panel.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    steps = _apart({point.step for model in models for point in model.mean.points})
    for (row, panels), (column, measure) in product(enumerate(grid), enumerate(measured)):
        panel = panels[column]
        panel.set_xscale("log")
        panel.set_yscale("linear" if measure == "error" else "log")  # an error may be 0
        panel.set_xlabel("training steps" if row else "training compute (FLOPs)", fontsize=8)
        if row:
            panel.set_xticks(steps, [f"{step:,}" for step in steps])
        else:
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_major_formatter("{x:.0e}")
        panel.xaxis.set_minor_formatter("")
        for set_formatter in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
            set_formatter(_FORMATS[measure])
        panel.tick_params(which="both", labelsize=7)
        panel.set_title("" if row else _LABELS[measure], fontsize=9)
        panel.grid(visible=True, which="both", alpha=0.2)
        panel.spines[["top", "right"]].set_visible(False)
    grid[0, 0].legend(fontsize=7, frameon=False)
    seeds = sorted({curve.seed for model in models for curve in model.curves})
    figure.suptitle(
        f"seeds {', '.join(map(str, seeds))}; bands: standard deviation of the seeds", fontsize=8
    )
    return figure


def _styles(models: Sequence[Model], variants: Sequence[str]) -> list[tuple[Any, str]]:
    """A colour and a line style for every model.

    The colour is the variant's, the style the size's. Where one of them is the same for all models,
    the other gives both.
    """
    sizes = list(dict.fromkeys(model.size for model in models))
    several_variants = len(variants_of(models)) > 1
    found = []
    for model in models:
        variant, size = variants.index(model.variant), sizes.index(model.size)
        colour = variant if several_variants else size
        style = size if len(sizes) > 1 else variant
        found.append((_COLOURS[colour % len(_COLOURS)], _STYLES[style % len(_STYLES)]))
    return found


def _apart(steps: Iterable[int]) -> list[int]:
    """Those that are far enough from the one before for their labels on a logarithmic axis."""
    ticks: list[int] = []
    for step in sorted(steps):
        if not ticks or step >= _APART * ticks[-1]:
            ticks.append(step)
    return ticks


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

"""What a scaling study found: the loss over compute and over steps, and what can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from ..whole_files import write_json, write_text, write_whole
from .config import FITV2

JSON_FILE, TABLE_FILE, PLOT_FILE = "scaling.json", "scaling.md", "scaling.png"
_LEVELS = 9
_STYLES = ("-", "--", ":")


@dataclass(frozen=True, slots=True)
class Point:
    """A model at one step of its training."""

    step: int
    flops: int
    """FLOPs of the training up to that step."""
    loss: float
    """Loss on held-out images."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The training of one model."""

    family: str
    size: str
    parameters: int
    points: list[Point]
    """Points by rising steps."""

    @property
    def name(self) -> str:
        return f"{self.family} {self.size}"

    def steps_to(self, loss: float) -> float | None:
        """The step at which the loss first falls to ``loss``; None if it never does.

        Between measured steps the loss is interpolated linearly over log(step).
        """
        return _first_below(loss, [p.step for p in self.points], [p.loss for p in self.points])

    def loss_at(self, flops: float) -> float | None:
        """The loss after this compute; None before the first point and after the last."""
        x = [p.flops for p in self.points]
        if not x[0] <= flops <= x[-1]:
            return None
        return float(np.interp(math.log(flops), np.log(x), [p.loss for p in self.points]))


def _first_below(loss: float, x: Sequence[float], losses: Sequence[float]) -> float | None:
    if losses[0] <= loss:  # below it, the loss was reached before the first point
        return float(x[0]) if losses[0] == loss else None
    for (x0, l0), (x1, l1) in pairwise(zip(x, losses, strict=True)):
        if l1 <= loss:
            part = (l0 - loss) / (l0 - l1) if l0 > l1 else 1.0
            return math.exp(math.log(x0) + part * (math.log(x1) - math.log(x0)))
    return None


def step_ratios(slow: Curve, fast: Curve) -> list[tuple[float, float]]:
    """(loss, steps of ``slow`` to it / steps of ``fast`` to it), the highest loss first.

    The losses are evenly spaced over the range that both curves cover.
    """
    highest = min(curve.points[0].loss for curve in (slow, fast))
    lowest = max(min(p.loss for p in curve.points) for curve in (slow, fast))
    ratios = []
    for loss in np.linspace(highest, lowest, _LEVELS) if highest > lowest else ():
        steps = slow.steps_to(float(loss)), fast.steps_to(float(loss))
        if steps[0] is not None and steps[1] is not None:
            ratios.append((float(loss), steps[0] / steps[1]))
    return ratios


def crossing(small: Curve, large: Curve) -> float | None:
    """The FLOPs from which on the larger model has the lower loss, where both were measured.

    None if the smaller model has the lower loss at the end.
    """
    common = sorted({p.flops for c in (small, large) for p in c.points})
    pairs = [(flops, small.loss_at(flops), large.loss_at(flops)) for flops in common]
    better = [(flops, b < a) for flops, a, b in pairs if a is not None and b is not None]
    if not better or not better[-1][1]:
        return None
    last_worse = max((i for i, (_, is_better) in enumerate(better) if not is_better), default=-1)
    return float(better[last_worse + 1][0])


def exponent(curve: Curve) -> float:
    """The b of the power law loss = a·FLOPs^(−b), fitted to the later half of log(FLOPs)."""
    x, y = np.log([p.flops for p in curve.points]), np.log([p.loss for p in curve.points])
    late = min(int(np.searchsorted(x, (x[0] + x[-1]) / 2)), len(x) - 2)
    return -float(np.polyfit(x[late:], y[late:], 1)[0])


def write_report(curves: Sequence[Curve], folder: Path) -> None:
    """Write the JSON file, the table and the plot, each atomically."""
    write_json(folder / JSON_FILE, {"curves": [asdict(curve) for curve in curves]})
    write_text(folder / TABLE_FILE, f"{markdown(curves)}\n")
    with write_whole(folder / PLOT_FILE) as temporary:
        plot(curves).savefig(temporary, format="png", dpi=120)


def markdown(curves: Sequence[Curve]) -> str:
    """The table of all runs, and what they say about size and about families."""
    lines = [
        "| model | parameters | steps | FLOPs | held-out loss | exponent of compute |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for curve in curves:
        end = curve.points[-1]
        lines.append(
            f"| {curve.name} | {curve.parameters / 1e6:.2f} M | {end.step:,} | {end.flops:.3g} "
            f"| {end.loss:.4f} | {exponent(curve):.3f} |"
        )
    return "\n".join([*lines, "", *_larger_models(curves), "", *_families(curves)])


def _larger_models(curves: Sequence[Curve]) -> list[str]:
    ladder = [curve for curve in curves if curve.family == FITV2]
    lines = ["Larger and smaller models at the same compute:"]
    for small, large in pairwise(ladder):
        flops = crossing(small, large)
        if flops is None:
            lines.append(
                f"- {small.name} ends with a lower loss than {large.name}, as far as both were "
                "measured."
            )
        else:
            lines.append(
                f"- {large.name} has a lower loss than {small.name} from {flops:.3g} FLOPs on."
            )
    return lines if len(ladder) > 1 else []


def _families(curves: Sequence[Curve]) -> list[str]:
    pairs = [
        (slow, fast)
        for fast in curves
        for slow in curves
        if fast.family == FITV2 != slow.family and slow.size == fast.size
    ]
    lines = []
    for slow, fast in pairs:
        ratios = step_ratios(slow, fast)
        if ratios:
            loss, last = ratios[-1]
            middle = median(ratio for _, ratio in ratios)
            faster = fast.name if last > 1 else slow.name
            agree = (last > 1) == (middle > 1)
            verdict = f"{faster} needs fewer steps" if agree else "no clear order"
            lines.append(
                f"- {slow.name} takes {last:.2f} × the steps of {fast.name} to a loss of "
                f"{loss:.4f} (median over losses: {middle:.2f} ×): {verdict}."
            )
        else:
            lines.append(f"- {slow.name} and {fast.name} have no loss in common.")
    if not lines:
        return []
    return [
        "Steps to the same loss (the paper reports about 2 × for FiT):",
        *lines,
        "",
        "Each model was trained once, with one seed; how far seeds differ was not measured.",
    ]


def plot(curves: Sequence[Curve]) -> Figure:
    """The loss over compute, and over steps."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    families = list(dict.fromkeys(curve.family for curve in curves))
    sizes = list(dict.fromkeys(curve.size for curve in curves))
    colours = colormaps["viridis"](np.linspace(0.05, 0.85, len(sizes)))
    for curve in curves:
        look = {
            "color": colours[sizes.index(curve.size)],
            "linestyle": _STYLES[families.index(curve.family)],
            "marker": "o",
            "markersize": 3,
        }
        losses = [p.loss for p in curve.points]
        label = f"{curve.name} ({curve.parameters / 1e6:.2g} M)"
        panels[0].loglog([p.flops for p in curve.points], losses, label=label, **look)
        panels[1].loglog([p.step for p in curve.points], losses, label=label, **look)
    for panel, name in zip(panels, ("training compute (FLOPs)", "training steps"), strict=True):
        panel.set_xlabel(name)
        panel.grid(visible=True, which="both", alpha=0.2)
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.set_major_formatter("{x:.2f}")
        panel.yaxis.set_minor_formatter("{x:.2f}")
    panels[0].set_ylabel("held-out loss (velocity)")
    panels[1].legend(fontsize=8, frameon=False)
    return figure

"""What a scaling study shows: curves of loss against compute and steps, and the paper's two claims in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..whole_files import temporary_file, write_json
from .config import FITV2

matplotlib.use("Agg")

JSON_FILE, TABLE_FILE, PLOT_FILE = "scaling.json", "scaling.md", "scaling.png"
_LEVELS = 9
_STYLES = ("-", "--", ":")


@dataclass(frozen=True, slots=True)
class Point:
    step: int
    flops: int
    """Of training up to that step."""
    loss: float
    """On held-out pictures."""


@dataclass(frozen=True, slots=True)
class Curve:
    family: str
    size: str
    parameters: int
    points: list[Point]
    """By rising steps."""

    @property
    def name(self) -> str:
        return f"{self.family} {self.size}"

    def steps_to(self, loss: float) -> float | None:
        """The step at which the best loss so far is first ``loss``, between measured steps along straight lines over log(step); None where it never is."""
        return _first_below(loss, [p.step for p in self.points], [p.loss for p in self.points])

    def flops_to(self, loss: float) -> float | None:
        """As ``steps_to``."""
        return _first_below(loss, [p.flops for p in self.points], [p.loss for p in self.points])

    def loss_at(self, flops: float) -> float | None:
        """Loss after so much compute; None beyond what was spent, and before the first point."""
        x = [p.flops for p in self.points]
        return (
            float(np.interp(math.log(flops), np.log(x), [p.loss for p in self.points]))
            if x[0] <= flops <= x[-1]
            else None
        )


def _first_below(loss: float, x: Sequence[float], losses: Sequence[float]) -> float | None:
    if losses[0] <= loss:
        return float(x[0]) if losses[0] == loss else None  # it was reached before the first point
    for (x0, l0), (x1, l1) in pairwise(zip(x, losses, strict=True)):
        if l1 <= loss:
            part = (l0 - loss) / (l0 - l1) if l0 > l1 else 1.0
            return math.exp(math.log(x0) + part * (math.log(x1) - math.log(x0)))
    return None


def step_ratios(slow: Curve, fast: Curve) -> list[tuple[float, float]]:
    """(loss, steps of ``slow`` over steps of ``fast`` to it), over evenly spaced losses that both went through, the highest first."""
    high, low = (
        min(c.points[0].loss for c in (slow, fast)),
        max(min(p.loss for p in c.points) for c in (slow, fast)),
    )
    ratios = []
    for loss in np.linspace(high, low, _LEVELS) if high > low else ():
        steps = slow.steps_to(float(loss)), fast.steps_to(float(loss))
        if steps[0] is not None and steps[1] is not None:
            ratios.append((float(loss), steps[0] / steps[1]))
    return ratios


def crossing(small: Curve, large: Curve) -> float | None:
    """FLOPs from which on, within what both spent, the larger model has the lower loss; None where it has it nowhere at the end."""
    common = sorted({p.flops for c in (small, large) for p in c.points})
    pairs = [(flops, small.loss_at(flops), large.loss_at(flops)) for flops in common]
    better = [(flops, b < a) for flops, a, b in pairs if a is not None and b is not None]
    if not better or not better[-1][1]:
        return None
    last_worse = max((i for i, (_, is_better) in enumerate(better) if not is_better), default=-1)
    return float(better[last_worse + 1][0])


def exponent(curve: Curve) -> float:
    """b of the power law loss = a·FLOPs^(−b) that fits the second half of a curve, over log(FLOPs), best."""
    x, y = np.log([p.flops for p in curve.points]), np.log([p.loss for p in curve.points])
    late = min(int(np.searchsorted(x, (x[0] + x[-1]) / 2)), len(x) - 2)
    return -float(np.polyfit(x[late:], y[late:], 1)[0])


def write_report(curves: Sequence[Curve], folder: Path) -> None:
    """All three files, each whole or not at all."""
    write_json(folder / JSON_FILE, {"curves": [asdict(curve) for curve in curves]})
    with temporary_file(folder / TABLE_FILE) as file:
        file.write(f"{markdown(curves)}\n".encode())
    with temporary_file(folder / PLOT_FILE) as file:
        plot(curves).savefig(file, format="png", dpi=120)


def markdown(curves: Sequence[Curve]) -> str:
    lines = [
        "| model | parameters | steps | FLOPs | held-out loss | exponent of compute |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for curve in curves:
        end = curve.points[-1]
        lines.append(
            f"| {curve.name} | {curve.parameters / 1e6:.2f} M | {end.step:,} | {end.flops:.3g} | {end.loss:.4f} | {exponent(curve):.3f} |"
        )
    return "\n".join([*lines, "", *_larger_models(curves), "", *_faster_convergence(curves)])


def _larger_models(curves: Sequence[Curve]) -> list[str]:
    ladder = [curve for curve in curves if curve.family == FITV2]
    lines = ["Larger models use compute better:"]
    for small, large in pairwise(ladder):
        flops = crossing(small, large)
        if flops is None:
            lines.append(
                f"- not seen from {small.name} to {large.name}: within the compute that both spent the smaller one ends lower."
            )
        else:
            lines.append(
                f"- {large.name} has a lower loss than {small.name} from {flops:.3g} FLOPs on."
            )
    return lines if len(ladder) > 1 else []


def _faster_convergence(curves: Sequence[Curve]) -> list[str]:
    lines = []
    for fast in (curve for curve in curves if curve.family == FITV2):
        for slow in (
            curve for curve in curves if curve.size == fast.size and curve.family != FITV2
        ):
            ratios = step_ratios(slow, fast)
            if ratios:
                loss, last = ratios[-1]
                middle = median(ratio for _, ratio in ratios)
                lines.append(
                    f"- {slow.name} takes {last:.2f} × the steps of {fast.name} to a loss of {loss:.4f} (median over losses: {middle:.2f} ×)."
                )
            else:
                lines.append(f"- {slow.name} and {fast.name} have no loss in common.")
    return ["FiTv2 converges faster (the paper: about twice):", *lines] if lines else []


def plot(curves: Sequence[Curve]) -> Figure:
    """Loss against compute, and against steps."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    families, sizes = (
        list(dict.fromkeys(getattr(curve, key) for curve in curves)) for key in ("family", "size")
    )
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.85, len(sizes)))
    for curve in curves:
        look = {
            "color": colours[sizes.index(curve.size)],
            "linestyle": _STYLES[families.index(curve.family)],
            "marker": "o",
            "markersize": 3,
        }
        for panel, x in zip(
            panels, ([p.flops for p in curve.points], [p.step for p in curve.points]), strict=True
        ):
            panel.loglog(
                x,
                [p.loss for p in curve.points],
                label=f"{curve.name} ({curve.parameters / 1e6:.2g} M)",
                **look,
            )
    for panel, name in zip(panels, ("training compute (FLOPs)", "training steps"), strict=True):
        panel.set_xlabel(name)
        panel.grid(visible=True, which="both", alpha=0.2)
        panel.spines[["top", "right"]].set_visible(False)
        panel.yaxis.set_major_formatter("{x:.2f}")
        panel.yaxis.set_minor_formatter("{x:.2f}")
    panels[0].set_ylabel("held-out loss (velocity)")
    panels[1].legend(fontsize=8, frameon=False)
    return figure

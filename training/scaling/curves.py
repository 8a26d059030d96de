"""The results of a study: curves of single runs, and of all seeds of a model together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Literal

import numpy as np

from .spread import Ratio, Spread


@dataclass(frozen=True, slots=True)
class Point:
    """A model at one step of its training."""

    step: int
    flops: int
    """FLOPs of the training up to that step."""
    loss: float
    """Loss on held-out images."""
    distance: float | None = None
    """Feature distance of generated images; None where it was not measured."""
    error: float | None = None
    """Share of generated images that are taken for another class; likewise."""


Measure = Literal["loss", "distance", "error"]
"""A figure of a point; lower is better."""
MEASURES: tuple[Measure, ...] = ("loss", "distance", "error")
DIGITS: dict[Measure, int] = {"loss": 4, "distance": 2, "error": 3}
"""Digits after the point with which a figure is shown."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One run."""

    variant: str
    size: str
    seed: int
    parameters: int
    points: list[Point]
    """Points by rising steps."""
    losses: dict[str, float] = field(default_factory=dict)
    """Losses at the last step, by held-out set."""
    distances: dict[str, float] = field(default_factory=dict)
    """Feature distances at the last step, likewise."""
    errors: dict[str, float] = field(default_factory=dict)
    """Errors of generated images at the last step, likewise."""
    cpu_seconds: float = 0.0
    """CPU time of the training."""

    def ends(self, measure: Measure) -> dict[str, float]:
        """The measure at the last step, by held-out set."""
        return {"loss": self.losses, "distance": self.distances, "error": self.errors}[measure]

    def track(self, measure: Measure) -> list[tuple[Point, float]]:
        """The points at which it was measured, each with its value."""
        values = [(point, getattr(point, measure)) for point in self.points]
        return [(point, value) for point, value in values if value is not None]

    def steps_to(self, value: float, measure: Measure = "loss") -> float | None:
        """The step at which the measure first falls to ``value``; None if it never does.

        Between measured steps it is interpolated linearly over log(step).
        """
        track = self.track(measure)
        return _first_below(value, [p.step for p, _ in track], [v for _, v in track])

    def flops_to(self, value: float, measure: Measure = "loss") -> float | None:
        """As ``steps_to``, in FLOPs."""
        track = self.track(measure)
        return _first_below(value, [p.flops for p, _ in track], [v for _, v in track])

    def at(self, flops: float, measure: Measure = "loss") -> float | None:
        """The measure after this compute; None before its first point and after its last."""
        track = self.track(measure)
        x = [p.flops for p, _ in track]
        if not x or not x[0] <= flops <= x[-1]:
            return None
        return float(np.interp(math.log(flops), np.log(x), [value for _, value in track]))


@dataclass(frozen=True, slots=True)
class Model:
    """All runs of one variant and size."""

    curves: list[Curve]
    """One per seed; at least one."""

    @property
    def variant(self) -> str:
        return self.curves[0].variant

    @property
    def size(self) -> str:
        return self.curves[0].size

    @property
    def name(self) -> str:
        return f"{self.variant} {self.size}"

    @property
    def mean(self) -> Curve:
        """The mean of the curves, which have the same steps."""
        first = self.curves[0]
        points = [
            Point(
                at_step[0].step,
                round(fmean(p.flops for p in at_step)),
                fmean(p.loss for p in at_step),
                _mean_if_all([p.distance for p in at_step]),
                _mean_if_all([p.error for p in at_step]),
            )
            for at_step in zip(*(curve.points for curve in self.curves), strict=True)
        ]
        return Curve(first.variant, first.size, first.seed, first.parameters, points)

    def end(self, measure: Measure, held_out: str) -> Spread:
        """The measure at the last step, on a held-out set."""
        return Spread(tuple(curve.ends(measure)[held_out] for curve in self.curves))

    def at(self, flops: float, measure: Measure = "loss") -> Spread | None:
        """The measure after this compute; None where a run was not measured around it."""
        values = [curve.at(flops, measure) for curve in self.curves]
        known = tuple(value for value in values if value is not None)
        return Spread(known) if len(known) == len(values) else None


def models_of(curves: Sequence[Curve]) -> list[Model]:
    """The runs by variant and size, in the order of the first seed."""
    groups: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.variant, curve.size), []).append(curve)
    return [Model(group) for group in groups.values()]


def variants_of(models: Iterable[Model]) -> list[str]:
    """The variants of these models, each once, in their order."""
    return list(dict.fromkeys(model.variant for model in models))


@dataclass(frozen=True, slots=True)
class Speed:
    """How much more ``slow`` needs than ``fast`` for the same value of a measure."""

    measure: Measure
    value: float
    steps: Ratio
    flops: Ratio


def speed(slow: Model, fast: Model, measure: Measure = "loss") -> Speed | None:
    """The ratios at the lowest value that every run of both reaches.

    None where a run is below that value at its first point already, and where it was not measured.
    """
    tracks = [[v for _, v in curve.track(measure)] for curve in (*slow.curves, *fast.curves)]
    if not all(tracks):
        return None
    value = max(map(min, tracks))
    needed: list[tuple[list[float], list[float]]] = []
    for model in (slow, fast):
        steps = [curve.steps_to(value, measure) for curve in model.curves]
        flops = [curve.flops_to(value, measure) for curve in model.curves]
        if None in steps or None in flops:
            return None
        needed.append(([s for s in steps if s], [f for f in flops if f]))
    (slow_steps, slow_flops), (fast_steps, fast_flops) = needed
    return Speed(measure, value, Ratio.of(slow_steps, fast_steps), Ratio.of(slow_flops, fast_flops))


def _mean_if_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _first_below(loss: float, x: Sequence[float], losses: Sequence[float]) -> float | None:
    """Where ``losses`` first fall to ``loss``, by linear interpolation over log(x)."""
    if losses[0] <= loss:  # below it, the loss was reached before the first point
        return float(x[0]) if losses[0] == loss else None
    for (x0, l0), (x1, l1) in pairwise(zip(x, losses, strict=True)):
        if l1 <= loss:
            part = (l0 - loss) / (l0 - l1) if l0 > l1 else 1.0
            return math.exp(math.log(x0) + part * (math.log(x1) - math.log(x0)))
    return None


def crossing(small: Curve, large: Curve) -> float | None:
    """The FLOPs from which on the larger model has the lower loss, where both were measured.

    None if the smaller model has the lower loss at the end.
    """
    common = sorted({p.flops for c in (small, large) for p in c.points})
    pairs = [(flops, small.at(flops), large.at(flops)) for flops in common]
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

"""What several seeds say: a mean with its spread, and whether two of them differ beyond it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LOWER, HIGHER, NO_DIFFERENCE, UNKNOWN = "lower", "higher", "no difference", "unknown"
_STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
"""Student's t, two-sided 95 %, for 1 to 10 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure, measured with several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the seeds (with n − 1); None of one seed."""
        return stdev(self.values) if len(self.values) > 1 else None

    def text(self, digits: int = 4) -> str:
        """Mean ± standard deviation; of one seed its value alone."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.deviation is None else f"{mean} ± {self.deviation:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two means, with its 95 % interval."""

    mean: float
    margin: float | None
    """Half of the interval; None where one seed leaves it unknown."""

    @property
    def verdict(self) -> str:
        """LOWER or HIGHER only where the interval leaves out 0."""
        if self.margin is None:
            return UNKNOWN
        if abs(self.mean) <= self.margin:
            return NO_DIFFERENCE
        return LOWER if self.mean < 0 else HIGHER

    def text(self, digits: int = 4) -> str:
        margin = "" if self.margin is None else f" ± {self.margin:.{digits}f}"
        return f"{self.mean:+.{digits}f}{margin}"


def difference(before: Spread, after: Spread) -> Difference:
    """The change from ``before`` to ``after``; the seeds of both are independent (Welch)."""
    mean = after.mean - before.mean
    if before.deviation is None or after.deviation is None:
        return Difference(mean, None)
    parts = [(s.deviation or 0.0) ** 2 / len(s.values) for s in (before, after)]
    if not sum(parts):
        return Difference(mean, 0.0)
    counts = len(before.values), len(after.values)
    freedom = sum(parts) ** 2 / sum(p**2 / (n - 1) for p, n in zip(parts, counts, strict=True))
    return Difference(mean, _student(freedom) * math.sqrt(sum(parts)))


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times a figure of one model is that of another, with the 95 % interval."""

    mean: float
    interval: tuple[float, float] | None
    """None where one seed leaves it unknown."""

    @classmethod
    def of(cls, one: Sequence[float], other: Sequence[float]) -> Ratio:
        """The geometric mean of ``one`` over that of ``other``, each a value per seed."""
        logs = [Spread(tuple(map(math.log, values))) for values in (other, one)]
        found = difference(*logs)
        if found.margin is None:
            return cls(math.exp(found.mean), None)
        low, high = found.mean - found.margin, found.mean + found.margin
        return cls(math.exp(found.mean), (math.exp(low), math.exp(high)))

    @property
    def verdict(self) -> str:
        """Whether it is LOWER or HIGHER than 1, as far as the interval leaves out 1."""
        if self.interval is None:
            return UNKNOWN
        if self.interval[0] > 1:
            return HIGHER
        return LOWER if self.interval[1] < 1 else NO_DIFFERENCE

    def text(self) -> str:
        if self.interval is None:
            return f"{self.mean:.2f} ×"
        return f"{self.mean:.2f} × ({self.interval[0]:.2f} to {self.interval[1]:.2f})"


def _student(freedom: float) -> float:
    """The quantile for the next lower whole number of degrees of freedom: never too sure."""
    return _STUDENT[min(max(int(freedom), 1), len(_STUDENT)) - 1]

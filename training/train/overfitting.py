"""When a run begins to overfit: images that it does not train on get worse, those that it does not.

Held-out losses are measured with the same noise and times every time, so small changes count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_PATIENCE = 3
"""Number of measurements in a row that must be worse than the best one."""
_MARGIN = 1.002
"""By how much they must be worse."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The held-out loss at a step, and the training loss of the steps before it."""

    step: int
    held_out: float
    training: float | None


def best(measurements: Sequence[Measurement]) -> Measurement | None:
    """The one with the lowest held-out loss; the earliest of equals."""
    return min(measurements, key=lambda m: m.held_out, default=None)


def overfits_since(measurements: Sequence[Measurement]) -> Measurement | None:
    """The best measurement, where the run has overfitted ever since; else None.

    That is where each of the last three held-out losses is worse, and the training loss has fallen.
    """
    lowest = best(measurements)
    if lowest is None or lowest.training is None:
        return None
    after = [m for m in measurements if m.step > lowest.step]
    last = after[-_PATIENCE:]
    if len(last) < _PATIENCE or any(m.held_out < lowest.held_out * _MARGIN for m in last):
        return None
    now = last[-1].training
    return lowest if now is not None and now < lowest.training else None

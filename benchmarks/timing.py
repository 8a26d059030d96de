"""Times of several functions, measured in turn so that noise of the machine hits each alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds by the ``clock`` of every function in each of ``rounds`` rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(warm_up + rounds):
        for name, function in functions.items():
            started = clock()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warm_up:
                times[name].append(clock() - started)
    return times


def ratio(times: Mapping[str, Sequence[float]], above: str, below: str) -> float:
    """The median over rounds of one function's time ÷ another's in the same round."""
    return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))

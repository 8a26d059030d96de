"""Integrators of dx/dt = velocity(x, t) over rising ``times``, one pure function each.

``velocity`` takes x and a scalar tensor t; ``callback(step, x, t, velocity)`` runs after each evaluation that starts a step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, Tensor, Tensor], None]
Solver = Callable[..., Tensor]


def euler(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """First order, one evaluation a step; never evaluates at the last time."""
    for step, (t, t_next) in enumerate(pairwise(times)):
        slope = velocity(x, t)
        if callback is not None:
            callback(step, x, t, slope)
        x = x + (t_next - t) * slope
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None, end_with_euler: bool = False) -> Tensor:
    """Second order (explicit trapezoid), two evaluations a step.

    The last step evaluates at the last time. Where that cannot be done, as for a model that predicts data at t = 1,
    ``end_with_euler`` makes the last step one of Euler.
    """
    last = len(times) - 2
    for step, (t, t_next) in enumerate(pairwise(times)):
        slope = velocity(x, t)
        if callback is not None:
            callback(step, x, t, slope)
        if not (end_with_euler and step == last):
            slope = (slope + velocity(x + (t_next - t) * slope, t_next)) / 2
        x = x + (t_next - t) * slope
    return x


SOLVERS: dict[str, Solver] = {"euler": euler, "heun": heun}

"""Integrators of the flow, one pure function each: ``solver(velocity, x, times, callback)``.

``times`` rise to 1 = data; for a solver of fixed steps without noise they may also fall.
``velocity`` takes x and a scalar tensor t; ``callback(step, x, t, velocity)`` runs after each
evaluation that starts a step. Options are keyword arguments. ``solvers`` lists these and the
stochastic ones of ``stochastic``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, Tensor, Tensor], None]


class SolverError(RuntimeError):
    """An adaptive solver that could not reach the end."""


class Tableau(NamedTuple):
    """An explicit Runge–Kutta method."""

    nodes: Sequence[float]
    """Where in the step each evaluation is, from 0 to 1."""
    stages: Sequence[Sequence[float]]
    """How much of each earlier slope leads to the point of each evaluation."""
    weights: Sequence[float]
    """How much of each slope the step takes."""


EULER = Tableau((0,), ((),), (1,))
HEUN = Tableau((0, 1), ((), (1,)), (1 / 2, 1 / 2))
MIDPOINT = Tableau((0, 1 / 2), ((), (1 / 2,)), (0, 1))
THREE_EIGHTHS = Tableau(
    (0, 1 / 3, 2 / 3, 1), ((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)
)
# Dormand and Prince 1980. The last stage is the new point, and so the next step's first slope.
DOPRI5 = Tableau(
    (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
)
# The error estimate of Shampine 1986, two thirds of Dormand and Prince's.
DOPRI5_ERROR = (71 / 86400, 0, -142 / 50085, 71 / 2880, -5751 / 169600, 44 / 1575, -1 / 60)
# Shampine 1986: the solution in the middle of a step.
DOPRI5_MIDDLE = (
    6025192743 / 60171106304,
    0,
    51252292925 / 130801643196,
    -2691868925 / 90256659456,
    187940372067 / 3189068634112,
    -1776094331 / 39487288512,
    11237099 / 470086768,
)


def _combine(slopes: Sequence[Tensor], parts: Sequence[float]) -> Tensor:
    """Σ slope·part, without the terms and products that change nothing."""
    pairs = [(slope, part) for slope, part in zip(slopes, parts, strict=True) if part]
    terms = [slope if part == 1 else slope * part for slope, part in pairs]
    return sum(terms[1:], terms[0])


def first_slope(
    velocity: Velocity, callback: Callback | None, step: int, x: Tensor, t: Tensor
) -> Tensor:
    """The velocity at the start of a step, which the callback is told of."""
    slope = velocity(x, t)
    if callback is not None:
        callback(step, x, t, slope)
    return slope


def require_rising(times: Tensor) -> None:
    """Raise ``ValueError`` for times that fall, for a solver that cannot go from data to noise."""
    if (times.diff() < 0).any():
        raise ValueError(
            "The times of this solver must rise, not fall from "
            f"{times[0].item():g} to {times[-1].item():g}. Solvers that also go back to noise are "
            "euler, heun, midpoint, rk4 and ab2."
        )


def runge_kutta(
    tableau: Tableau, velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None
) -> Tensor:
    """An explicit Runge–Kutta method over fixed steps."""
    for step, (t, t_next) in enumerate(pairwise(times)):
        dt = t_next - t
        slopes = [first_slope(velocity, callback, step, x, t)]
        for node, parts in zip(tableau.nodes[1:], tableau.stages[1:], strict=True):
            t_node = t_next if node == 1 else t + node * dt
            slopes.append(velocity(x + dt * _combine(slopes, parts), t_node))
        x = x + dt * _combine(slopes, tableau.weights)
    return x


def ab2(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Adams–Bashforth of second order for steps of any lengths; the first is an Euler step."""
    previous: tuple[Tensor, Tensor] | None = None
    for step, (t, t_next) in enumerate(pairwise(times)):
        dt = t_next - t
        slope = mean = first_slope(velocity, callback, step, x, t)
        if previous is not None:
            previous_dt, previous_slope = previous
            mean = slope + (slope - previous_slope) * (dt / (2 * previous_dt))
        x = x + dt * mean
        if dt:  # no line leads through two slopes at one time
            previous = dt, slope
    return x


def dopri5(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    *,
    rtol: float = 1e-3,
    atol: float = 1e-6,
    max_evaluations: int = 1000,
) -> Tensor:
    """Dormand–Prince of order 5(4), which chooses its own steps from ``times[0]`` to ``times[-1]``.

    A step is accepted when the RMS of error / (``atol`` + ``rtol``·|x|) over all of x is at most 1.
    As in the published sampler, the last step may reach beyond the end; the solution is then
    interpolated. Raises ``SolverError`` where ``max_evaluations`` do not suffice or the velocity is
    not finite, and ``ValueError`` for tolerances that are not above 0 and for times that fall.
    """
    if not (rtol > 0 and atol > 0):
        raise ValueError(f"rtol and atol must be above 0, not {rtol} and {atol}.")
    require_rising(times)
    t, end = times[0].item(), times[-1].item()
    evaluations = step = 0
    rejected = False

    def evaluate(x: Tensor, t: float) -> Tensor:
        nonlocal evaluations
        if evaluations >= max_evaluations:
            raise SolverError(
                f"dopri5 reached t = {t:.4f} of {end:g} with {evaluations} evaluations, and "
                f"max_evaluations is {max_evaluations}. Raise it, or loosen rtol ({rtol:g}) and "
                f"atol ({atol:g})."
            )
        evaluations += 1
        return velocity(x, times.new_tensor(t))

    def norm(change: Tensor, x: Tensor) -> float:
        value = (change / (atol + rtol * x.abs())).square().mean().sqrt().item()
        if not math.isfinite(value):
            raise SolverError(
                f"The velocity is not finite at t = {t:.4f}: the model or its precision is at "
                "fault, not the solver."
            )
        return value

    slope = evaluate(x, t)
    # The first step: Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I", II.4.
    dt = 0.01 * norm(x, x) / max(norm(slope, x), 1e-5) or 1e-6  # of zeros no length follows
    bend = norm(evaluate(x + dt * slope, t + dt) - slope, x) / dt
    dt = min(100 * dt, (0.01 / max(norm(slope, x), bend, 1e-15)) ** 0.2)
    while t < end:
        if callback is not None and not rejected:
            callback(step, x, times.new_tensor(t), slope)
        slopes, ahead = [slope], x
        for node, parts in zip(DOPRI5.nodes[1:], DOPRI5.stages[1:], strict=True):
            ahead = x + dt * _combine(slopes, parts)
            slopes.append(evaluate(ahead, t + node * dt))
        error = norm(dt * _combine(slopes, DOPRI5_ERROR), torch.maximum(x.abs(), ahead.abs()))
        rejected = error > 1
        if not rejected:
            if t + dt >= end:
                middle = x + dt * _combine(slopes, DOPRI5_MIDDLE)
                part = (end - t) / dt
                return _interpolate(x, ahead, middle, dt * slope, dt * slopes[-1], part)
            t, x, slope, step = t + dt, ahead, slopes[-1], step + 1
        dt *= min(10.0, max(0.9 * max(error, 1e-10) ** -0.2, 0.2 if rejected else 1.0))
    return x


def _interpolate(
    start: Tensor, end: Tensor, middle: Tensor, start_slope: Tensor, end_slope: Tensor, part: float
) -> Tensor:
    """The quartic through three points of a step with the slopes, per step, of its ends.

    ``part`` is where in the step, from 0 to 1.
    """
    a = 2 * (end_slope - start_slope) - 8 * (end + start) + 16 * middle
    b = 5 * start_slope - 3 * end_slope + 18 * start + 14 * end - 32 * middle
    c = end_slope - 4 * start_slope - 11 * start - 5 * end + 16 * middle
    return (((a * part + b) * part + c) * part + start_slope) * part + start

"""Integrators from noise to data over rising ``times``, one pure function each: ``solver(velocity, x, times, callback, **options)``.

``velocity`` takes x and a scalar tensor t. ``callback(step, x, t, velocity)`` runs after each evaluation that starts a step.
The stochastic ones follow dx = (v + w·score)·dt + √(2w)·dW, which has the marginals of the flow for every diffusion w ≥ 0
(SiT, arXiv 2401.08740, section 2.3); for x_t = t·data + (1−t)·noise, score = (t·v − x) / (1−t).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, Tensor, Tensor], None]
Solver = Callable[..., Tensor]
Diffusion = Callable[[float], float]
Noise = Callable[[Tensor], Tensor]


class SolverError(RuntimeError):
    """An adaptive solver that could not reach the end."""


class Tableau(NamedTuple):
    """An explicit Runge–Kutta method: evaluation k is at ``nodes[k]`` of the step, from the slopes before it in parts ``stages[k]``."""

    nodes: Sequence[float]
    stages: Sequence[Sequence[float]]
    weights: Sequence[float]


EULER = Tableau((0,), ((),), (1,))
HEUN = Tableau((0, 1), ((), (1,)), (1 / 2, 1 / 2))
MIDPOINT = Tableau((0, 1 / 2), ((), (1 / 2,)), (0, 1))
THREE_EIGHTHS = Tableau(
    (0, 1 / 3, 2 / 3, 1), ((), (1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8)
)
# Dormand and Prince 1980. Its last stage is the new point, so that the next step has its first slope already.
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
    terms = [
        slope * part if part != 1 else slope
        for slope, part in zip(slopes, parts, strict=True)
        if part
    ]
    return sum(terms[1:], terms[0])


def runge_kutta(
    tableau: Tableau, velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None
) -> Tensor:
    """A ``tableau`` over fixed steps."""
    for step, (t, t_next) in enumerate(pairwise(times)):
        dt = t_next - t
        slopes = [velocity(x, t)]
        if callback is not None:
            callback(step, x, t, slopes[0])
        for node, parts in zip(tableau.nodes[1:], tableau.stages[1:], strict=True):
            slopes.append(
                velocity(x + dt * _combine(slopes, parts), t_next if node == 1 else t + node * dt)
            )
        x = x + dt * _combine(slopes, tableau.weights)
    return x


def ab2(velocity: Velocity, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Adams–Bashforth of second order for steps of any lengths: one evaluation a step, the first step by Euler."""
    before: tuple[Tensor, Tensor] | None = None
    for step, (t, t_next) in enumerate(pairwise(times)):
        dt, slope = t_next - t, velocity(x, t)
        if callback is not None:
            callback(step, x, t, slope)
        mean = slope if before is None else slope + (slope - before[1]) * (dt / (2 * before[0]))
        x, before = x + dt * mean, (dt, slope)
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
    """Dormand–Prince of order 5(4) with its own steps from ``times[0]`` to ``times[-1]``; the times between are not visited.

    A step is accepted when the RMS of error / (``atol`` + ``rtol``·|x|) over the batch is at most 1. As in the published sampler,
    the last step may reach beyond the end, where the solution is then interpolated. Raises ``SolverError`` when
    ``max_evaluations`` do not suffice or the velocity is not finite, and ``ValueError`` on tolerances ≤ 0.
    """
    if rtol <= 0 or atol <= 0:
        raise ValueError(f"rtol and atol must be above 0, not {rtol} and {atol}.")
    t, end = times[0].item(), times[-1].item()
    evaluations = step = 0
    rejected = False

    def evaluate(x: Tensor, t: float) -> Tensor:
        nonlocal evaluations
        if evaluations >= max_evaluations:
            raise SolverError(
                f"dopri5 reached t = {t:.4f} of {end:g} with {evaluations} evaluations, and max_evaluations is {max_evaluations}. "
                f"Raise it, or loosen rtol ({rtol:g}) and atol ({atol:g})."
            )
        evaluations += 1
        return velocity(x, times.new_tensor(t))

    def norm(change: Tensor, x: Tensor) -> float:
        value = (change / (atol + rtol * x.abs())).square().mean().sqrt().item()
        if not math.isfinite(value):
            raise SolverError(
                f"The velocity is not finite at t = {t:.4f}: the model or its precision is at fault, not the solver."
            )
        return value

    slope = evaluate(x, t)
    # The first step: Hairer, Nørsett, Wanner, "Solving Ordinary Differential Equations I", section II.4.
    dt = 0.01 * norm(x, x) / max(norm(slope, x), 1e-5)
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
                return _interpolate(
                    x,
                    ahead,
                    x + dt * _combine(slopes, DOPRI5_MIDDLE),
                    dt * slope,
                    dt * slopes[-1],
                    (end - t) / dt,
                )
            t, x, slope, step = t + dt, ahead, slopes[-1], step + 1
        dt *= min(10.0, max(0.9 * max(error, 1e-10) ** -0.2, 0.2 if rejected else 1.0))
    return x


def _interpolate(
    start: Tensor, end: Tensor, middle: Tensor, start_slope: Tensor, end_slope: Tensor, part: float
) -> Tensor:
    """The quartic through three points of a step with the slopes, per step, of its ends; ``part`` in [0, 1] of the step."""
    a = 2 * (end_slope - start_slope) - 8 * (end + start) + 16 * middle
    b = 5 * start_slope - 3 * end_slope + 18 * start + 14 * end - 32 * middle
    c = end_slope - 4 * start_slope - 11 * start - 5 * end + 16 * middle
    return (((a * part + b) * part + c) * part + start_slope) * part + start


SBDM_START = 0.04
"""Before this time SBDM's (1−t)/t, infinite at t = 0, stays what it is there."""

DIFFUSIONS: dict[str, Diffusion] = {
    "constant": lambda t: 1.0,
    "sbdm": lambda t: (1 - t) / max(t, SBDM_START),
    "sigma": lambda t: 1 - t,
    "linear": lambda t: 1 - t,
    "decreasing": lambda t: 0.25 * (math.cos(math.pi * t) + 1) ** 2,
    "increasing-decreasing": lambda t: math.sin(math.pi * t) ** 2,
}
"""Forms of w(t) in SiT, arXiv 2401.08740; sigma and linear are the same on this path."""

LAST_STEPS = ("none", "mean", "tweedie", "euler")
LAST_STEP_SIZE = 0.04
"""The published length of a last step that is not "none"."""


def score_from_velocity(velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """∇ log p_t(x) = (t·v − x) / (1−t); undefined at t = 1."""
    return (t * velocity - x) / (1 - t)


def sde(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    *,
    second_order: bool = False,
    diffusion: str = "sigma",
    diffusion_norm: float = 1.0,
    last_step: str = "mean",
    noise_source: Noise = torch.randn_like,
) -> Tensor:
    """Euler–Maruyama, or with ``second_order`` Heun on the noised point, with a noiseless last step.

    The last interval of ``times`` takes ``last_step``: "none" (as the others), "mean" (drift alone), "tweedie" (the expected
    data) or "euler" (the velocity alone). ``diffusion`` is a key of ``DIFFUSIONS``, times ``diffusion_norm``; ``noise_source`` draws
    for a tensor of x's shape. Raises ``ValueError`` on other values. A second-order step that ends at t = 1 is one of Euler–Maruyama.
    """
    for what, value, known in (
        ("diffusion", diffusion, DIFFUSIONS),
        ("last_step", last_step, LAST_STEPS),
    ):
        if value not in known:
            raise ValueError(f"No {what} is called {value!r}. There are: {', '.join(known)}.")
    if diffusion_norm < 0:
        raise ValueError(f"diffusion_norm must be 0 or more, not {diffusion_norm}.")

    def weight(t: Tensor) -> float:
        return diffusion_norm * DIFFUSIONS[diffusion](t.item())

    def drift(slope: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return slope + weight(t) * score_from_velocity(slope, x, t)

    last = len(times) - 2
    for step, (t, t_next) in enumerate(pairwise(times)):
        dt = t_next - t
        ending = step == last and last_step != "none"
        two_slopes = second_order and not ending and t_next < 1
        kick = 0.0 if ending else noise_source(x) * (2 * weight(t) * dt).sqrt()
        if two_slopes:
            x, kick = x + kick, 0.0
        slope = velocity(x, t)
        if callback is not None:
            callback(step, x, t, slope)
        if ending and last_step == "tweedie":
            # E[data | x_t] = (x + (1−t)²·score) / t; on this path that is x + (1−t)·v.
            x = x + (1 - t) * slope
            continue
        if ending and last_step == "euler":
            x = x + dt * slope
            continue
        pull = drift(slope, x, t)
        if two_slopes:
            ahead = x + dt * pull
            pull = (pull + drift(velocity(ahead, t_next), ahead, t_next)) / 2
        x = x + dt * pull + kick
    return x


SOLVERS: dict[str, Solver] = {
    "euler": partial(runge_kutta, EULER),
    "heun": partial(runge_kutta, HEUN),
    "midpoint": partial(runge_kutta, MIDPOINT),
    "rk4": partial(runge_kutta, THREE_EIGHTHS),
    "ab2": ab2,
    "dopri5": dopri5,
    "sde-euler": sde,
    "sde-heun": partial(sde, second_order=True),
}
STOCHASTIC = ("sde-euler", "sde-heun")


def solver_named(name: str, **options: Any) -> Solver:
    """A solver with its ``options`` set. Raises ``ValueError`` on an unknown name, or an option that this solver does not have."""
    if name not in SOLVERS:
        raise ValueError(f"No solver is called {name!r}. There are: {', '.join(SOLVERS)}.")
    known = [
        p.name
        for p in signature(SOLVERS[name]).parameters.values()
        if p.kind is p.KEYWORD_ONLY and p.name != "second_order"
    ]
    if unknown := [option for option in options if option not in known]:
        raise ValueError(
            f"The solver {name!r} has no option {unknown[0]!r}. It has: {', '.join(known) or 'none'}."
        )
    return partial(SOLVERS[name], **options)

"""The solvers by name, with all that is known of each, and the sigmas that they step through."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from .flow import shift_sigma
from .integrators import (
    EULER,
    HEUN,
    MIDPOINT,
    THREE_EIGHTHS,
    Callback,
    SolverError,
    Velocity,
    ab2,
    dopri5,
    runge_kutta,
)
from .stochastic import DIFFUSIONS, LAST_STEPS, Noise, sde_euler, sde_heun

__all__ = [
    "DEFAULT_SOLVER",
    "DIFFUSIONS",
    "LAST_STEPS",
    "SOLVERS",
    "Callback",
    "Noise",
    "Solver",
    "SolverError",
    "Velocity",
    "sampling_sigmas",
    "schedule",
    "solver_named",
]


@dataclass(frozen=True, slots=True)
class Solver:
    """A solver and its facts; tooltips, help pages and lists are made from these."""

    integrate: Callable[..., Tensor]
    """See ``integrators`` and ``stochastic``."""
    evaluations: int = 1
    """Model evaluations per step; of an adaptive solver, per attempted step."""
    stochastic: bool = False
    """Whether it adds noise on the way."""
    adaptive: bool = False
    """Whether it chooses its own steps, from all images of a batch together."""
    last_step: float = 0.0
    """Published length of its special last step, in time; 0 means that it has none."""
    summary: str = ""
    """One sentence for people who choose a solver."""

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options that it takes."""
        parameters = signature(self.integrate).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)


SOLVERS: dict[str, Solver] = {
    "euler": Solver(
        partial(runge_kutta, EULER),
        summary="First order, one model evaluation per step: the simplest and least accurate.",
    ),
    "heun": Solver(
        partial(runge_kutta, HEUN),
        evaluations=2,
        summary="Second order, two model evaluations per step: averages both ends of a step.",
    ),
    "midpoint": Solver(
        partial(runge_kutta, MIDPOINT),
        evaluations=2,
        summary="Second order, two model evaluations per step: takes the middle of a step.",
    ),
    "rk4": Solver(
        partial(runge_kutta, THREE_EIGHTHS),
        evaluations=4,
        summary="Fourth order, four model evaluations per step: accurate with few steps.",
    ),
    "ab2": Solver(
        ab2,
        summary="Second order, one model evaluation per step: reuses that of the previous step.",
    ),
    "dopri5": Solver(
        dopri5,
        evaluations=6,
        adaptive=True,
        summary="Fifth order, adaptive: chooses its own steps by tolerance, whatever their number.",
    ),
    "sde-euler": Solver(
        sde_euler,
        stochastic=True,
        last_step=0.04,
        summary="Adds noise on the way, one model evaluation per step (Euler–Maruyama).",
    ),
    "sde-heun": Solver(
        sde_heun,
        evaluations=2,
        stochastic=True,
        last_step=0.04,
        summary="Adds noise on the way, two model evaluations per step (Heun).",
    ),
}
DEFAULT_SOLVER = "ab2"
"""The nearest to the exact solution with 20 evaluations; benchmarks/solvers.py measures it."""


def solver_named(name: str, **options: Any) -> Callable[..., Tensor]:
    """A solver's integrator with its ``options`` set, to call with (velocity, x, times, callback).

    Raises ``ValueError`` for an unknown name, and for an option that this solver does not have.
    """
    solver = _solver(name)
    if unknown := [option for option in options if option not in solver.options]:
        known = ", ".join(solver.options) or "none"
        raise ValueError(f"The solver {name!r} has no option {unknown[0]!r}. Its options: {known}.")
    return partial(solver.integrate, **options)


def _solver(name: str) -> Solver:
    if name not in SOLVERS:
        raise ValueError(f"Unknown solver {name!r}. Choose from {', '.join(SOLVERS)}.")
    return SOLVERS[name]


def sampling_sigmas(
    steps: int, denoise: float = 1.0, shift: float = 1.0, last_step_size: float = 0.0
) -> Tensor:
    """``steps + 1`` noise levels (sigma = 1 − t) that fall from ``denoise`` to 0, fp32 on the CPU.

    They are evenly spaced before the ``shift``: for a shift a above 1 more of the steps are noisy,
    as a sigma becomes a·σ / (1 + (a−1)·σ) (arXiv 2403.03206, eq. 23), between the same ends. With a
    ``last_step_size`` above 0 the last step has that length. Raises ``ValueError`` for values out
    of range.
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}.")
    if not 0.0 < denoise <= 1.0:
        raise ValueError(f"denoise must be above 0 and at most 1, not {denoise}.")
    if not 0.0 < shift < math.inf:
        raise ValueError(f"shift must be a finite number above 0, not {shift}.")
    if not 0.0 <= last_step_size < denoise:
        raise ValueError(
            f"last_step_size must be 0 or more and below denoise ({denoise}), not {last_step_size}."
        )
    # The ends are shifted back first, so that the shift leaves them where they were asked for.
    start, stop = (shift_sigma(end, 1 / shift) for end in (denoise, last_step_size))
    sigmas = shift_sigma(torch.linspace(start, stop, steps + 1 - bool(last_step_size)), shift)
    return torch.cat([sigmas, sigmas.new_zeros(1)]) if last_step_size else sigmas


def schedule(
    solver: str,
    steps: int,
    denoise: float = 1.0,
    shift: float = 1.0,
    last_step_size: float | None = None,
    last_step: str | None = None,
) -> Tensor:
    """The ``sampling_sigmas`` for a solver, by name, with its own published last step.

    ``last_step_size`` None is that of the solver, but no longer than a step of the others;
    ``last_step`` is the option of stochastic solvers, and "none" asks for no special one. Raises
    ``ValueError`` for an unknown solver and values out of range.
    """
    published = _solver(solver).last_step
    if last_step_size is None:
        special = published and last_step != "none" and steps > 1
        last_step_size = min(published, denoise / steps) if special else 0.0
    return sampling_sigmas(steps, denoise, shift, last_step_size)

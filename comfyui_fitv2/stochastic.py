"""Stochastic integrators, which add noise on the way; called as those of ``integrators``.

They follow dx = (v + w·score)·dt + √(2w)·dW, which has the marginals of the flow for every
diffusion w ≥ 0 (SiT, arXiv 2401.08740, section 2.3). For x_t = t·data + (1−t)·noise the score is
(t·v − x) / (1−t).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from .integrators import Callback, Velocity, first_slope, require_rising

Noise = Callable[[Tensor], Tensor]
"""Standard normal numbers of the shape, dtype and device of a tensor."""

SBDM_START = 0.04
"""Before this time SBDM's w(t) = (1−t)/t, infinite at t = 0, keeps its value there."""

DIFFUSIONS: dict[str, Callable[[float], float]] = {
    "constant": lambda t: 1.0,
    "sbdm": lambda t: (1 - t) / max(t, SBDM_START),
    "sigma": lambda t: 1 - t,
    "linear": lambda t: 1 - t,
    "decreasing": lambda t: 0.25 * (math.cos(math.pi * t) + 1) ** 2,
    "increasing-decreasing": lambda t: math.sin(math.pi * t) ** 2,
}
"""Forms of w(t) in SiT, arXiv 2401.08740; sigma and linear are equal on this path."""

LastStep = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
LAST_STEPS: dict[str, LastStep | None] = {
    "none": None,
    "mean": lambda x, velocity, drift, t, dt: x + dt * drift,
    # E[data | x_t] = (x + (1−t)²·score) / t, which on this path is x + (1−t)·v.
    "tweedie": lambda x, velocity, drift, t, dt: x + (1 - t) * velocity,
    "euler": lambda x, velocity, drift, t, dt: x + dt * velocity,
}
"""Last steps without noise: the drift alone, the expected data, or the velocity alone."""


def sde_euler(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    *,
    diffusion: str = "sigma",
    diffusion_norm: float = 1.0,
    last_step: str = "mean",
    noise_source: Noise = torch.randn_like,
) -> Tensor:
    """Euler–Maruyama.

    ``diffusion`` is a key of ``DIFFUSIONS``, multiplied by ``diffusion_norm``. The last interval of
    ``times`` takes ``last_step``, a key of ``LAST_STEPS``; "none" makes it a step like the others.
    ``noise_source`` is called once per noisy step. Raises ``ValueError`` for other values, and for
    times that fall.
    """
    weight = _weight(diffusion, diffusion_norm)
    for step, (t, t_next) in enumerate(pairwise(_noisy(times, last_step))):
        dt = t_next - t
        kick = noise_source(x) * (2 * weight(t) * dt).sqrt()
        slope = first_slope(velocity, callback, step, x, t)
        x = x + dt * _drift(slope, x, t, weight) + kick
    return _finish(velocity, x, times, callback, weight, last_step)


def sde_heun(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    callback: Callback | None = None,
    *,
    diffusion: str = "sigma",
    diffusion_norm: float = 1.0,
    last_step: str = "mean",
    noise_source: Noise = torch.randn_like,
) -> Tensor:
    """Heun's method from the noised point; the options are those of ``sde_euler``.

    A step that ends at t = 1, where the score is infinite, is one of Euler–Maruyama.
    """
    weight = _weight(diffusion, diffusion_norm)
    for step, (t, t_next) in enumerate(pairwise(_noisy(times, last_step))):
        dt = t_next - t
        kick = noise_source(x) * (2 * weight(t) * dt).sqrt()
        if t_next >= 1:
            slope = first_slope(velocity, callback, step, x, t)
            x = x + dt * _drift(slope, x, t, weight) + kick
        else:
            x = x + kick
            drift = _drift(first_slope(velocity, callback, step, x, t), x, t, weight)
            ahead = x + dt * drift
            drift_ahead = _drift(velocity(ahead, t_next), ahead, t_next, weight)
            x = x + dt * ((drift + drift_ahead) / 2)
    return _finish(velocity, x, times, callback, weight, last_step)


def _weight(diffusion: str, norm: float) -> Callable[[Tensor], float]:
    """w of the scalar t."""
    if diffusion not in DIFFUSIONS:
        raise ValueError(f"Unknown diffusion {diffusion!r}. Choose from {', '.join(DIFFUSIONS)}.")
    if norm < 0:
        raise ValueError(f"diffusion_norm must be 0 or more, not {norm}.")
    return lambda t: norm * DIFFUSIONS[diffusion](t.item())


def _noisy(times: Tensor, last_step: str) -> Tensor:
    """The times between which noise is added."""
    if last_step not in LAST_STEPS:
        raise ValueError(f"Unknown last_step {last_step!r}. Choose from {', '.join(LAST_STEPS)}.")
    require_rising(times)
    return times if LAST_STEPS[last_step] is None else times[:-1]


def _drift(velocity: Tensor, x: Tensor, t: Tensor, weight: Callable[[Tensor], float]) -> Tensor:
    return velocity + weight(t) * score_from_velocity(velocity, x, t)


def _finish(
    velocity: Velocity,
    x: Tensor,
    times: Tensor,
    callback: Callback | None,
    weight: Callable[[Tensor], float],
    last_step: str,
) -> Tensor:
    """The last interval without noise, unless it was a step like the others."""
    finish = LAST_STEPS[last_step]
    if finish is None or len(times) < 2:
        return x
    t, t_next = times[-2:]
    slope = first_slope(velocity, callback, len(times) - 2, x, t)
    return finish(x, slope, _drift(slope, x, t, weight), t, t_next - t)


def score_from_velocity(velocity: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """∇ log p_t(x) = (t·v − x) / (1−t); undefined at t = 1."""
    return (t * velocity - x) / (1 - t)

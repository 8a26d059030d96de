"""From noise to latents."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .extrapolation import Extrapolation
from .flow import interpolate
from .guidance import GUIDED_CHANNELS, Guidance, guided_velocity
from .model import FiT
from .solvers import LAST_STEP_SIZE, STOCHASTIC, Callback, solver_named


def sampling_times(
    steps: int, denoise: float = 1.0, shift: float = 1.0, last_step_size: float = 0.0
) -> Tensor:
    """``steps + 1`` times from 1 − ``denoise`` to 1 (data), evenly spaced before the ``shift``.

    A shift a > 1 spends more of the steps near the noise: 1 − t becomes a·(1−t) / (1 + (a−1)·(1−t)) (arXiv 2403.03206, eq. 23),
    between the same ends. With ``last_step_size`` > 0 the last step is of that length. Raises ``ValueError`` on values out of range.
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}.")
    if not 0.0 < denoise <= 1.0:
        raise ValueError(f"denoise must be above 0 and at most 1, not {denoise}.")
    if shift <= 0.0:
        raise ValueError(f"shift must be above 0, not {shift}.")
    if not 0.0 <= last_step_size < denoise:
        raise ValueError(
            f"last_step_size must be 0 or more and below denoise ({denoise}), not {last_step_size}."
        )
    start, stop = (_shifted(sigma, 1 / shift) for sigma in (denoise, last_step_size))
    sigmas = _shifted(torch.linspace(start, stop, steps if last_step_size else steps + 1), shift)
    return 1 - (torch.cat([sigmas, torch.zeros(1)]) if last_step_size else sigmas)


def _shifted(sigma: Any, shift: float) -> Any:
    return shift * sigma / (1 + (shift - 1) * sigma)


def resolution_shift(tokens: int, train_tokens: int) -> float:
    """√(tokens / train_tokens), at least 1: with it, a larger picture's steps are as noisy as those of the trained size (arXiv 2403.03206, eq. 23)."""
    return max(1.0, math.sqrt(tokens / train_tokens))


@torch.no_grad()
def sample(
    model: FiT,
    noise: Tensor,
    y: Tensor,
    method: str = "heun",
    steps: int = 20,
    cfg_scale: float = 1.5,
    *,
    guided_channels: int | None = GUIDED_CHANNELS,
    guidance_power: float = 0.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    extrapolation: Extrapolation | None = None,
    latents: Tensor | None = None,
    denoise: float = 1.0,
    shift: float = 1.0,
    last_step_size: float | None = None,
    callback: Callback | None = None,
    **solver_options: Any,
) -> Tensor:
    """Draw latents (batch, C, H, W), in the model's scale, from ``noise`` of that shape and class ids ``y`` (batch,).

    ``method`` is a key of ``solvers.SOLVERS`` and ``solver_options`` its own, such as ``rtol`` or ``diffusion``. Of ``guidance.Guidance``
    are the guidance arguments, of ``sampling_times`` ``steps``, ``denoise``, ``shift`` and ``last_step_size`` (0.04 by default where a
    stochastic solver ends with another step than its own, else 0). With ``latents`` and ``denoise`` < 1 it starts from them at time
    1 − ``denoise`` (image to image). Raises ``ValueError`` on an unknown method or option, values out of range, labels the
    model does not have and models that predict noise, and ``SolverError`` where an adaptive solver fails.
    """
    solver = solver_named(method, **solver_options)
    if model.config.prediction != "velocity":
        raise ValueError(
            "sample() draws with rectified-flow models; this one is a FiT version 1, which predicts noise. Sample it with KSampler in ComfyUI."
        )
    y = torch.as_tensor(y, device=noise.device)
    null_class = model.config.null_class
    if len(y) != len(noise) or int(y.min()) < 0 or int(y.max()) > null_class:
        raise ValueError(
            f"y must hold one class id of 0 to {null_class} ({null_class} = null) for each of {len(noise)} images, not {y.tolist()}."
        )
    if latents is None and denoise < 1.0:
        raise ValueError(
            f"denoise {denoise} starts part of the way from an image; pass it as latents."
        )
    guidance = Guidance(cfg_scale, guidance_power, guidance_interval, guided_channels)
    if last_step_size is None:
        last_step_size = published_last_step(
            method, steps, denoise, solver_options.get("last_step")
        )
    # Times stay on the CPU: solvers read them, and no step waits for the device.
    times = sampling_times(steps, denoise, shift, last_step_size)
    x = noise if latents is None else interpolate(latents, noise, float(times[0]))
    return solver(guided_velocity(model, y, guidance, extrapolation), x, times, callback)


def published_last_step(
    method: str, steps: int, denoise: float, last_step: str | None = None
) -> float:
    """The published length of the last step, 0.04 for stochastic solvers that end with another step than their own, and no longer than a step of the others."""
    own = method not in STOCHASTIC or last_step == "none"
    return 0.0 if own or steps == 1 else min(LAST_STEP_SIZE, denoise / steps)

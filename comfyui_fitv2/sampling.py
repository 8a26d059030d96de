"""From noise to latents."""

from __future__ import annotations

import torch
from torch import Tensor

from .extrapolation import Extrapolation
from .flow import interpolate
from .guidance import GUIDED_CHANNELS, guided_velocity
from .model import FiT
from .solvers import SOLVERS, Callback


def sampling_times(steps: int, denoise: float = 1.0) -> Tensor:
    """``steps + 1`` evenly spaced times from 1 − ``denoise`` to 1 (data). Raises ``ValueError`` on values out of range."""
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}.")
    if not 0.0 < denoise <= 1.0:
        raise ValueError(f"denoise must be above 0 and at most 1, not {denoise}.")
    return torch.linspace(1.0 - denoise, 1.0, steps + 1)


@torch.no_grad()
def sample(
    model: FiT,
    noise: Tensor,
    y: Tensor,
    method: str = "heun",
    steps: int = 20,
    cfg_scale: float = 1.5,
    *,
    guided_channels: int = GUIDED_CHANNELS,
    extrapolation: Extrapolation | None = None,
    latents: Tensor | None = None,
    denoise: float = 1.0,
    callback: Callback | None = None,
) -> Tensor:
    """Draw latents (batch, C, H, W), in the model's scale, from ``noise`` of that shape and class ids ``y`` (batch,).

    With ``latents`` and ``denoise`` < 1 it starts from them at time 1 − ``denoise`` (image to image). Raises ``ValueError`` on
    an unknown method or labels the model does not have.
    """
    if method not in SOLVERS:
        raise ValueError(f"No solver is called {method!r}. There are: {', '.join(SOLVERS)}.")
    y = torch.as_tensor(y, device=noise.device)
    null_class = model.config.null_class
    if len(y) != len(noise) or int(y.min()) < 0 or int(y.max()) > null_class:
        raise ValueError(f"y must hold one class id of 0 to {null_class} ({null_class} = null) for each of {len(noise)} images, not {y.tolist()}.")
    if latents is None and denoise < 1.0:
        raise ValueError(f"denoise {denoise} starts part of the way from an image; pass it as latents.")
    times = sampling_times(steps, denoise).to(noise.device)
    x = noise if latents is None else interpolate(latents, noise, times[0])
    return SOLVERS[method](guided_velocity(model, y, cfg_scale, guided_channels, extrapolation), x, times, callback)

"""Classifier-free guidance (arXiv 2207.12598) on a model's velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from .extrapolation import Extrapolation
from .model import FiT
from .solvers import Velocity

GUIDED_CHANNELS = 3
"""The published sampler guides the first three of four latent channels; published numbers hold for that alone."""


def guided_velocity(model: FiT, y: Tensor, cfg_scale: float, guided_channels: int = GUIDED_CHANNELS, extrapolation: Extrapolation | None = None) -> Velocity:
    """A velocity of (x, t): null + ``cfg_scale``·(class − null) on the first ``guided_channels``, the class's own on the rest.

    At scale 1 the null class is not evaluated.
    """
    null = torch.full_like(y, model.config.null_class)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        if cfg_scale == 1.0:
            return model(x, t.expand(len(x)), y, extrapolation)
        cond, uncond = model(torch.cat([x, x]), t.expand(2 * len(x)), torch.cat([y, null]), extrapolation).chunk(2)
        guided = torch.lerp(uncond[:, :guided_channels], cond[:, :guided_channels], cfg_scale)
        return torch.cat([guided, cond[:, guided_channels:]], dim=1)

    return velocity

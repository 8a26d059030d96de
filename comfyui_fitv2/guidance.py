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

    ``x`` stays in its dtype, the model runs in its own. At scale 1 the null class is not evaluated.
    """
    dtype = model.x_embedder.proj.weight.dtype
    null = torch.full_like(y, model.config.null_class)

    def evaluate(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return model(x.to(dtype), t.expand(len(x)), labels, extrapolation).to(x.dtype)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        if cfg_scale == 1.0:
            return evaluate(x, t, y)
        cond, uncond = evaluate(torch.cat([x, x]), t, torch.cat([y, null])).chunk(2)
        guided = torch.lerp(uncond[:, :guided_channels], cond[:, :guided_channels], cfg_scale)
        return torch.cat([guided, cond[:, guided_channels:]], dim=1)

    return velocity

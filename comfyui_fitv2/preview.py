"""RGB guessed from latents without a VAE, for live previews.

A linear guess is the field's custom, and is poor for small VAEs, whose latents are far from linear in colour: products of
channels beside the channels themselves mend most of that at no cost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import LatentFormat


def preview_features(latents: Tensor) -> Tensor:
    """Channels, then products of their pairs i ≤ j: (batch, C, H, W) to (batch, C + C·(C+1)/2, H, W)."""
    first, second = torch.triu_indices(latents.shape[1], latents.shape[1], device=latents.device)
    return torch.cat([latents, latents[:, first] * latents[:, second]], dim=1)


def fit_latent_format(latents: Tensor, images: Tensor, scale_factor: float) -> LatentFormat:
    """The preview colours that fit pairs best: scaled ``latents`` (batch, C, H, W) and ``images`` (batch, 3, f·H, f·W) in −1..1."""
    colours = F.adaptive_avg_pool2d(images, latents.shape[-2:]).movedim(1, -1).flatten(0, -2)
    features = preview_features(latents).movedim(1, -1).flatten(0, -2)
    solution = torch.linalg.lstsq(F.pad(features, (0, 1), value=1.0), colours).solution
    return LatentFormat(scale_factor, solution[:-1].tolist(), solution[-1].tolist())

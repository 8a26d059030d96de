"""RGB guessed from latents without a VAE, for live previews.

A linear guess is the field's custom, and fails for small VAEs: their decoders first squash the latents to nearly ±1, so that a
colour is closer to a truth table of signs than to a sum. Products of squashed channels can spell such a table, at no cost.
"""

from __future__ import annotations

from itertools import chain, combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import LatentFormat

_SQUASHINGS = (0.5, 1.5)


def preview_features(latents: Tensor) -> Tensor:
    """(batch, C, H, W) to (batch, 2·(2^C − 1), H, W): the product of every set of channels, squashed by tanh(0.5·z), then by tanh(1.5·z)."""
    channels = latents.shape[1]
    subsets = list(
        chain.from_iterable(combinations(range(channels), size) for size in range(1, channels + 1))
    )
    squashed = (torch.tanh(latents * steepness) for steepness in _SQUASHINGS)
    return torch.cat(
        [torch.stack([x[:, subset].prod(dim=1) for subset in subsets], dim=1) for x in squashed],
        dim=1,
    )


def fit_latent_format(latents: Tensor, images: Tensor, scale_factor: float) -> LatentFormat:
    """The preview colours that fit pairs best: scaled ``latents`` (batch, C, H, W) and ``images`` (batch, 3, f·H, f·W) in −1..1."""
    colours = (
        F.adaptive_avg_pool2d(images, (latents.shape[2], latents.shape[3]))
        .movedim(1, -1)
        .flatten(0, -2)
    )
    features = preview_features(latents).movedim(1, -1).flatten(0, -2)
    solution = torch.linalg.lstsq(F.pad(features, (0, 1), value=1.0), colours).solution
    return LatentFormat(scale_factor, solution[:-1].tolist(), solution[-1].tolist())

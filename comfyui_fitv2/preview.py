"""RGB guessed from latents without a VAE, for live previews.

Usually the guess is a linear one. It fails for small VAEs: their decoders first squash the latents
to nearly ±1, so that a colour is closer to a truth table of signs than to a sum. Products of
squashed channels can express such a table, at no cost.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from .metadata import LatentFormat
from .resolution import VAE_FACTOR

_SQUASHINGS = (0.5, 1.5)


def feature_count(preview_kind: str, channels: int) -> int:
    """The number of features that previews of this kind make of latents with these channels."""
    if preview_kind == "products":
        return len(_SQUASHINGS) * (2 ** min(channels, 64) - 1)
    return channels


def preview_features(latents: Tensor) -> Tensor:
    """The products of every set of channels, first of tanh(0.5·z), then of tanh(1.5·z).

    (batch, C, H, W) to (batch, 2·(2^C − 1), H, W).
    """
    channels = range(latents.shape[1])
    subsets = [s for size in channels for s in combinations(channels, size + 1)]
    squashed = (torch.tanh(latents * steepness) for steepness in _SQUASHINGS)
    return torch.stack([x[:, s].prod(dim=1) for x in squashed for s in subsets], dim=1)


def fit_latent_format(latents: Tensor, images: Tensor, scale_factor: float) -> LatentFormat:
    """The preview colours that fit best, by least squares.

    Scaled ``latents`` (batch, C, H, W) go with ``images`` (batch, 3, f·H, f·W) in −1..1.
    """
    pooled = F.adaptive_avg_pool2d(images, (latents.shape[2], latents.shape[3]))
    colours = pooled.movedim(1, -1).flatten(0, -2)
    features = preview_features(latents).movedim(1, -1).flatten(0, -2)
    solution = torch.linalg.lstsq(F.pad(features, (0, 1), value=1.0), colours).solution
    return LatentFormat(scale_factor, solution[:-1].tolist(), solution[-1].tolist(), "products")


def preview(latents: Tensor, latent_format: LatentFormat) -> Tensor:
    """Images (batch, 3, 8·H, 8·W) in 0..1, guessed from scaled fp32 ``latents`` (batch, C, H, W).

    Without colours in the format, the first three channels are shown as they are.
    """
    if latent_format.latent_rgb_factors is None:
        rgb = latents[:, [min(i, latents.shape[1] - 1) for i in range(3)]] / 4
    else:
        products = latent_format.preview_kind == "products"
        features = preview_features(latents) if products else latents
        device = latents.device
        factors = torch.tensor(latent_format.latent_rgb_factors, device=device)
        bias = torch.tensor(latent_format.latent_rgb_factors_bias or [0.0] * 3, device=device)
        rgb = torch.einsum("bfhw,fc->bchw", features, factors) + bias[:, None, None]
    small = ((rgb + 1) / 2).nan_to_num(0.5).clamp(0, 1)
    return small.repeat_interleave(VAE_FACTOR, -2).repeat_interleave(VAE_FACTOR, -1)

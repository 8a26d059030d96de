"""The rectified-flow path x_t = t·data + (1−t)·noise, with velocity data − noise (arXiv 2209.03003), and how a model learns it.

The loss is a sum of token errors times weights that the whole batch decides, so that it is the same number however the batch is
cut: over processes, micro-batches, packed or padded rows. Version 1's DDPM (arXiv 2402.12376) is here too, for models that predict "epsilon".
"""

from __future__ import annotations

import torch
from torch import Tensor

from .config import DDPM_TIMESTEPS

TIMESTEPS = ("logit-normal", "uniform")
LOSSES = ("image", "token")
_FIRST_BETA, _LAST_BETA = 1e-4, 0.02


def interpolate(data: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """The point of the path at time ``t`` in [0, 1], 1 = data; a tensor ``t`` must broadcast over ``data``."""
    return t * data + (1 - t) * noise


def velocity_from_denoised(denoised: Tensor, x: Tensor, t: Tensor | float) -> Tensor:
    """Velocity at (x, t) of a model that predicts data: (data − x) / (1 − t). Undefined at t = 1."""
    return (denoised - x) / (1 - t)


def sample_timesteps(
    count: int,
    distribution: str = "logit-normal",
    *,
    mean: float = 0.0,
    std: float = 1.0,
    shift: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``count`` times in [0, 1], 1 = data, fp32: "uniform", or "logit-normal", the sigmoid of N(``mean``, ``std``²) (arXiv 2403.03206).

    A ``shift`` above 1 trains more on noisier times, as ``sampling.sampling_times`` spends steps: 1 − t becomes a·(1−t) / (1 + (a−1)·(1−t)).
    Raises ``ValueError`` on an unknown distribution, and a ``shift`` or ``std`` that is not above 0.
    """
    if shift <= 0 or std <= 0:
        raise ValueError(f"shift and std of timesteps must be above 0, not {shift} and {std}.")
    if distribution == "logit-normal":
        t = (mean + std * torch.randn(count, generator=generator)).sigmoid()
    elif distribution == "uniform":
        t = torch.rand(count, generator=generator)
    else:
        raise ValueError(
            f"No distribution of timesteps is called {distribution!r}. There are: {', '.join(TIMESTEPS)}."
        )
    return t / (1 + (shift - 1) * (1 - t))


def training_point(
    prediction: str, data: Tensor, noise: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """What a model sees at time ``t``, a scalar, and what it should answer. ``prediction`` is that of ``FiTConfig``.

    For "velocity" ``t`` is in [0, 1], 1 = data; for "epsilon" a DDPM timestep of 0 to 999, 0 = data.
    """
    if prediction == "velocity":
        return interpolate(data, noise, t), data - noise
    signal = ddpm_signal()[int(t)]
    return signal.sqrt() * data + (1 - signal).sqrt() * noise, noise


def ddpm_signal() -> Tensor:
    """The share of the data's variance left at each DDPM timestep, (1000,) fp32: the running product of 1 − β, β linear from 1e-4 to 0.02."""
    betas = torch.linspace(_FIRST_BETA, _LAST_BETA, DDPM_TIMESTEPS, dtype=torch.float64)
    return (1 - betas).cumprod(0).float()


def token_errors(output: Tensor, target: Tensor) -> Tensor:
    """Mean square error of each token, fp32: (rows, tokens, channels) twice to (rows, tokens)."""
    return (output.float() - target.float()).square().mean(-1)


def token_weights(length: int, loss: str, images: int, tokens: int) -> Tensor:
    """Weights (length,) of an image's token errors in the loss of a batch that holds ``images`` and ``tokens`` in all.

    "image" is the mean over an image's own tokens, then over images (arXiv 2410.13925); "token" that over all tokens. Raises
    ``ValueError`` on another loss.
    """
    if loss not in LOSSES:
        raise ValueError(f"No loss is called {loss!r}. There are: {', '.join(LOSSES)}.")
    return torch.full((length,), 1 / (length * images) if loss == "image" else 1 / tokens)

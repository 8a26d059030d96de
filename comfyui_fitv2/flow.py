"""The noise processes that a FiT is trained on, and the training loss.

FiTv2 follows the rectified flow x_t = t·data + (1−t)·noise, whose velocity is data − noise (arXiv
2209.03003). FiT of version 1 follows a DDPM with linear betas (arXiv 2402.12376) and predicts its
noise. ``flow_of`` gives the one that a model follows; everything that differs between the two is a
method of it.

The loss is a sum of token errors times weights that depend on the whole batch, so that it is the
same number however the batch is cut: into processes, micro-batches, packed or padded rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .config import FiTConfig

TIMESTEPS = ("logit-normal", "uniform")
LOSSES = ("image", "token")
Number = TypeVar("Number", float, Tensor)
DDPM_TIMESTEPS = 1000
"""Number of steps in the noise schedule of version 1."""
FIRST_BETA, LAST_BETA = 1e-4, 0.02


@dataclass(frozen=True, slots=True)
class TimeDistribution:
    """The arguments of ``sample_timesteps`` that say how training times are distributed."""

    name: str = "logit-normal"
    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0


class Flow(ABC):
    """A noise process, in terms of a model's own time and output.

    The model's time is whatever ``FiT.forward`` takes as ``t``. "Flow time" is that of the
    rectified flow: 0 at noise, 1 at data.
    """

    predicts_noise: bool
    """Whether the model's output is the noise instead of the velocity."""

    @abstractmethod
    def draw_time(self, generator: torch.Generator | None, times: TimeDistribution) -> Tensor:
        """A random model time for training, an fp32 scalar; see ``sample_timesteps``."""

    @abstractmethod
    def point(self, data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The model's input at the model time ``t``, a scalar, and the output it should give."""

    @abstractmethod
    def rope_time(self, t: Tensor) -> Tensor:
        """The flow time that time-aware extrapolation uses at the model time ``t`` (batch,)."""

    @abstractmethod
    def model_input(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """The model's input and time for a point ``x`` of the rectified flow at flow time ``t``."""

    @abstractmethod
    def velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The velocity (data − noise) that an ``output`` at the model's ``x`` and ``t`` means."""


class RectifiedFlow(Flow):
    """FiTv2: the model's time is the flow time, and its output is the velocity."""

    predicts_noise = False

    def draw_time(self, generator: torch.Generator | None, times: TimeDistribution) -> Tensor:
        return sample_timesteps(
            1, times.name, mean=times.mean, std=times.std, shift=times.shift, generator=generator
        )[0]

    def point(self, data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return interpolate(data, noise, t), data - noise

    def rope_time(self, t: Tensor) -> Tensor:
        return t

    def model_input(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        return x, torch.tensor(t)

    def velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return output


class LinearDDPM(Flow):
    """Version 1: the model's time is a timestep of 0 (data) to 999, and its output the noise."""

    predicts_noise = True

    def draw_time(self, generator: torch.Generator | None, times: TimeDistribution) -> Tensor:
        """A uniform timestep: a DDPM is trained on all of them alike, whatever the distribution."""
        return torch.randint(DDPM_TIMESTEPS, (), generator=generator).float()

    def point(self, data: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        signal = ddpm_signal()[int(t)]
        return signal.sqrt() * data + (1 - signal).sqrt() * noise, noise

    def rope_time(self, t: Tensor) -> Tensor:
        return 1 - t / DDPM_TIMESTEPS

    def model_input(self, x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        # Rectified-flow and DDPM points differ by a factor alone: a DDPM's keep the data's
        # variance.
        timestep = (ddpm_flow_times() - t).abs().argmin()
        return x / (t**2 + (1 - t) ** 2) ** 0.5, timestep.float()

    def velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        signal = ddpm_signal()[int(t)].to(output.device)
        data = (x - (1 - signal).sqrt() * output) / signal.sqrt()
        return data - output


FLOWS: dict[str, Flow] = {"velocity": RectifiedFlow(), "epsilon": LinearDDPM()}
"""The flow for each value of ``FiTConfig.prediction``."""


def flow_of(config: FiTConfig) -> Flow:
    """The flow that a model of this configuration follows."""
    return FLOWS[config.prediction]


def require_rectified_flow(config: FiTConfig) -> None:
    """Raise ``ValueError`` for a model that predicts noise instead of velocity."""
    if flow_of(config).predicts_noise:
        raise ValueError(
            "This model is a FiT version 1, which predicts noise; rectified-flow solvers need one "
            "that predicts velocity. Sample it with KSampler in ComfyUI."
        )


def interpolate(data: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """The point of the rectified flow at time ``t`` in [0, 1], where 1 is data.

    A tensor ``t`` must broadcast over ``data``.
    """
    return t * data + (1 - t) * noise


def shift_sigma(sigma: Number, shift: float) -> Number:
    """a·σ / (1 + (a−1)·σ) for a = ``shift``: noisier for a above 1 (arXiv 2403.03206, eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sample_timesteps(
    count: int,
    distribution: str = "logit-normal",
    *,
    mean: float = 0.0,
    std: float = 1.0,
    shift: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``count`` random times in [0, 1], fp32, where 1 is data.

    The ``distribution`` is "uniform", or "logit-normal": the sigmoid of N(``mean``, ``std``²)
    (arXiv 2403.03206). With a ``shift`` a above 1 more of the times are noisy: 1 − t becomes
    a·(1−t) / (1 + (a−1)·(1−t)), the same shift that ``solvers.sampling_sigmas`` applies. Raises
    ``ValueError`` for an unknown distribution, and for a ``shift`` or ``std`` that is not above 0.
    """
    if shift <= 0 or std <= 0:
        raise ValueError(f"shift and std of timesteps must be above 0, not {shift} and {std}.")
    if distribution == "logit-normal":
        t = (mean + std * torch.randn(count, generator=generator)).sigmoid()
    elif distribution == "uniform":
        t = torch.rand(count, generator=generator)
    else:
        raise ValueError(
            f"Unknown timestep distribution {distribution!r}. Choose from {', '.join(TIMESTEPS)}."
        )
    return t / (1 + (shift - 1) * (1 - t))


def ddpm_signal() -> Tensor:
    """ᾱ at each timestep, (1000,) fp32: the part of the data's variance that is left.

    It is the running product of 1 − β, with β rising linearly from 1e-4 to 0.02.
    """
    betas = torch.linspace(FIRST_BETA, LAST_BETA, DDPM_TIMESTEPS, dtype=torch.float64)
    return (1 - betas).cumprod(0).float()


def ddpm_flow_times() -> Tensor:
    """The flow time with the signal-to-noise ratio of each DDPM timestep, (1000,) fp32."""
    signal, noise = ddpm_signal().sqrt(), (1 - ddpm_signal()).sqrt()
    return signal / (signal + noise)


def token_errors(output: Tensor, target: Tensor) -> Tensor:
    """Mean square error of each token: (rows, tokens, channels) twice to (rows, tokens), fp32."""
    return (output.float() - target.float()).square().mean(-1)


def token_weights(length: int, loss: str, images: int, tokens: int) -> Tensor:
    """Weights (length,) of one image's token errors in the loss of a whole batch.

    The batch holds ``images`` images and ``tokens`` tokens in total. "image" takes the mean over
    the tokens of each image, then over images (arXiv 2410.13925); "token" the mean over all tokens.
    Raises ``ValueError`` for another loss.
    """
    if loss not in LOSSES:
        raise ValueError(f"Unknown loss {loss!r}. Choose from {', '.join(LOSSES)}.")
    return torch.full((length,), 1 / (length * images) if loss == "image" else 1 / tokens)

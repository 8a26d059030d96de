"""Classifier-free guidance (arXiv 2207.12598) on a model's velocity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .extrapolation import Extrapolation
from .model import FiT
from .solvers import Velocity

GUIDED_CHANNELS = 3
"""The published sampler guides the first three of four latent channels; published numbers hold for that alone."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """How strongly to guide, where, and when.

    ``scale`` 1 is off. With ``power`` > 0 it falls from ``scale`` at noise to 1 at data along a power-cosine (MDT, arXiv
    2303.14389), the sooner the greater the power; 0 keeps it constant. Outside the ``interval`` of t nothing is guided (arXiv
    2404.07724). ``channels`` counts the guided latent channels, None for all. Raises ``ValueError`` on a negative power or an
    interval that does not rise within [0, 1].
    """

    scale: float = 1.5
    power: float = 0.0
    interval: tuple[float, float] = (0.0, 1.0)
    channels: int | None = GUIDED_CHANNELS

    def __post_init__(self) -> None:
        if self.power < 0:
            raise ValueError(f"Guidance power must be 0 or more, not {self.power}.")
        start, end = self.interval
        if not 0 <= start < end <= 1:
            raise ValueError(
                f"A guidance interval must rise within [0, 1] (0 = noise, 1 = data), not go from {start} to {end}."
            )

    def acts_at(self, t: float) -> bool:
        start, end = self.interval
        return self.scale != 1.0 and (start <= t or start == 0) and (t <= end or end == 1)

    def scale_at(self, t: float) -> float:
        """1 + (scale − 1)·(1 − cos(π·(1−t)^power)) / 2."""
        if not self.power:
            return self.scale
        return (
            1
            + (self.scale - 1)
            * (1 - math.cos(math.pi * (1 - min(max(t, 0.0), 1.0)) ** self.power))
            / 2
        )

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        """(batch, C, …) predictions of the class and of the null class to the guided one; any prediction that is linear in the velocity."""
        guided = torch.lerp(
            unconditional[:, : self.channels], conditional[:, : self.channels], self.scale_at(t)
        )
        return (
            guided
            if self.channels is None
            else torch.cat([guided, conditional[:, self.channels :]], dim=1)
        )


def guided_velocity(
    model: FiT, y: Tensor, guidance: Guidance, extrapolation: Extrapolation | None = None
) -> Velocity:
    """A velocity of (x, t) for class ids ``y`` (batch,). The null class is not evaluated where it has no part."""
    null = torch.full_like(y, model.config.null_class)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time = t.item()
        t = t.to(x.device)
        if not guidance.acts_at(time):
            return model(x, t.expand(len(x)), y, extrapolation)
        conditional, unconditional = model(
            torch.cat([x, x]), t.expand(2 * len(x)), torch.cat([y, null]), extrapolation
        ).chunk(2)
        return guidance.combine(conditional, unconditional, time)

    return velocity

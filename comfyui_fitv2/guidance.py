"""Classifier-free guidance (arXiv 2207.12598) on a model's velocity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .devices import copied_to
from .extrapolation import Extrapolation
from .model import FiT
from .solvers import Velocity

GUIDED_CHANNELS = 3
"""The published sampler, and so every published figure, guides the first three of four."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """How strongly to guide, on which channels, and when.

    Raises ``ValueError`` for a scale that is not finite, a negative power, an interval that does
    not rise within [0, 1], and less than one channel.
    """

    scale: float = 1.5
    """Guidance scale; 1 is off."""
    power: float = 0.0
    """0 keeps the scale constant. Above 0 it falls from ``scale`` at noise to 1 at data along a
    power-cosine (MDT, arXiv 2303.14389); the greater the power, the earlier."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Times between which to guide, 1 = data (arXiv 2404.07724)."""
    channels: int | None = GUIDED_CHANNELS
    """Number of guided latent channels, from the first; None for all."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"Guidance scale must be a finite number, not {self.scale}.")
        if not 0 <= self.power < math.inf:
            raise ValueError(f"Guidance power must be 0 or more, not {self.power}.")
        if self.channels is not None and self.channels < 1:
            raise ValueError(
                f"Guidance needs 1 or more channels, or None for all, not {self.channels}."
            )
        start, end = self.interval
        if not 0 <= start < end <= 1:
            raise ValueError(
                "A guidance interval must rise within [0, 1] (0 = noise, 1 = data), "
                f"not go from {start} to {end}."
            )

    def acts_at(self, t: float) -> bool:
        """Whether the null class has a part in the velocity at time ``t``."""
        # An end at 0 or 1 means "from the start" or "to the end", beyond which solvers may step:
        # dopri5 past 1, and rounding past both.
        start, end = self.interval
        started, ended = start == 0 or start <= t, end != 1 and end < t
        return self.scale != 1.0 and started and not ended

    def scale_at(self, t: float) -> float:
        """1 + (scale − 1)·(1 − cos(π·(1−t)^power)) / 2, or ``scale`` where the power is 0."""
        if not self.power:
            return self.scale
        noise = 1 - min(max(t, 0.0), 1.0)
        return 1 + (self.scale - 1) * (1 - math.cos(math.pi * noise**self.power)) / 2

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        """The guided prediction from those for the class and for the null class, (batch, C, …).

        It may be any prediction that is linear in the velocity.
        """
        channels = slice(self.channels)
        guided = torch.lerp(unconditional[:, channels], conditional[:, channels], self.scale_at(t))
        if self.channels is None:
            return guided
        return torch.cat([guided, conditional[:, self.channels :]], dim=1)


def guided_velocity(
    model: FiT, y: Tensor, guidance: Guidance, extrapolation: Extrapolation | None = None
) -> Velocity:
    """The velocity for labels ``y`` (batch, …) as a function of x (batch, C, H, W) and a scalar t.

    ``y`` is as in ``FiT.forward``.

    The null class is not evaluated where it has no part.
    """
    null = _null_like(y, model)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time, t = t.item(), copied_to(x.device, t)
        if not guidance.acts_at(time):
            return model(x, t.expand(len(x)), y, extrapolation)
        both = model(torch.cat([x, x]), t.expand(2 * len(x)), torch.cat([y, null]), extrapolation)
        conditional, unconditional = both.chunk(2)
        return guidance.combine(conditional, unconditional, time)

    return velocity


def packed_guided_velocity(
    model: FiT,
    shapes: Sequence[Sequence[int]],
    y: Tensor,
    guidance: Guidance,
    extrapolation: Extrapolation | Sequence[Extrapolation | None] | None = None,
) -> Velocity:
    """``guided_velocity`` of images of these ``shapes`` (C, H_i, W_i), one pass without padding.

    x is one vector that ``pack`` makes of all images; one extrapolation is for all, or one per
    image.
    """
    count = len(shapes)
    null = _null_like(y, model)
    if extrapolation is None or isinstance(extrapolation, Extrapolation):
        extrapolation = [extrapolation] * count

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time, t, images = t.item(), copied_to(x.device, t), unpack(x, shapes)
        if not guidance.acts_at(time):
            return pack(model.forward_packed(images, t.expand(count), y, extrapolation))
        both = model.forward_packed(
            images * 2, t.expand(2 * count), torch.cat([y, null]), [*extrapolation, *extrapolation]
        )
        pairs = zip(both[:count], both[count:], strict=True)
        return pack([guidance.combine(c[None], u[None], time) for c, u in pairs])

    return velocity


def _null_like(y: Tensor, model: FiT) -> Tensor:
    """The null class as class ids or as weights, whichever ``y`` holds."""
    if not y.is_floating_point():
        return torch.full_like(y, model.config.null_class)
    null = torch.zeros_like(y)
    null[..., model.config.null_class] = 1
    return null


def pack(images: Sequence[Tensor]) -> Tensor:
    """Tensors of any shapes as one vector, one after the other."""
    return torch.cat([image.flatten() for image in images])


def unpack(x: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """The reverse of ``pack`` for tensors of these ``shapes``."""
    parts = x.split([math.prod(shape) for shape in shapes])
    return [part.view(*shape) for part, shape in zip(parts, shapes, strict=True)]

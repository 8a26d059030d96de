"""Training-free RoPE extrapolation: rotary frequencies for grids longer than the trained one.

One function a method, one registry. Notation of the FiT paper (arXiv 2402.12376, section 3.3): D is the rotary width of
one axis (half a head), θ_i = base^(−2i/D), L the trained tokens a side, s = max(length / L, 1). "Coupled" takes s from the
longer side for both axes; "decoupled" (the paper's Vision* methods) gives each axis its own.

The released weights follow the public code where paper and code differ; so do the methods here, and the paper's own
attention scale is ``paper``. Lumina-Next's two methods (arXiv 2406.18583, section 2.3) are here in one form: a frequency turns
NTK-aware up to the one that PI and NTK slow down alike, and by PI behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """How rotary frequencies are stretched. ``method`` is one of ``ALL_METHODS``, ``attention_scale`` one of
    ``ATTENTION_SCALES``; ``train_length`` is in tokens a side. Raises ``ValueError`` on other values."""

    method: str = "none"
    decoupled: bool = True
    attention_scale: str = "none"
    train_length: int = 16

    def __post_init__(self) -> None:
        for what, value, known in (
            ("method", self.method, ALL_METHODS),
            ("attention_scale", self.attention_scale, ATTENTION_SCALES),
        ):
            if value not in known:
                raise ValueError(
                    f"Extrapolation {what} {value!r} is unknown. There are: {', '.join(known)}."
                )
        if self.train_length < 2:
            raise ValueError(
                f"Extrapolation train_length must be 2 tokens or more, not {self.train_length}."
            )

    @property
    def label(self) -> str:
        """Its name, as ``parse`` reads it: "ntk", "yarn coupled", "ntk + pro2"."""
        coupling = "" if self.decoupled or self.method == "none" else " coupled"
        return f"{self.method}{coupling}{'' if self.attention_scale == 'none' else f' + {self.attention_scale}'}"

    @classmethod
    def parse(cls, text: str, train_length: int) -> Extrapolation:
        """The reverse of ``label``, spaces and case aside. Raises ``ValueError`` that says how to write one."""
        method, _, scale = (part.strip() for part in text.lower().partition("+"))
        name, _, coupling = (part.strip() for part in method.partition(" "))
        if coupling not in ("", "coupled", "decoupled"):
            raise ValueError(
                f'{text.strip()!r} is not an extrapolation. Write a method, "coupled" behind it if both axes scale alike, "+" and an attention scale.'
            )
        return cls(name or "none", coupling != "coupled", scale or "none", train_length)

    @property
    def follows_time(self) -> bool:
        """Whether the frequencies depend on the flow's time."""
        return self.method in TIME_AWARE

    def factors(self, height: int, width: int) -> tuple[float, float]:
        """How many times the trained length, at least 1, a ``height`` × ``width`` token grid counts on its rows and its columns."""
        lengths = (height, width) if self.decoupled else (max(height, width),) * 2
        return max(lengths[0] / self.train_length, 1.0), max(lengths[1] / self.train_length, 1.0)

    def changes(self, height: int, width: int) -> bool:
        """Whether anything differs from plain RoPE on this token grid."""
        stretches = self.method != "none" and max(self.factors(height, width)) > 1.0
        return stretches or self.magnitude(height, width) != 1.0

    def frequencies(
        self, height: int, width: int, axis_dim: int, base: float, t: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rotary frequencies for the rows and the columns of a ``height`` × ``width`` token grid, (axis_dim / 2,) fp32 each.

        Methods that follow time need ``t`` (batch,) in [0, 1], 1 = data, and give (batch, axis_dim / 2) on its device.
        """
        factors = self.factors(height, width)
        if self.follows_time:
            if t is None:
                raise ValueError(
                    f"The extrapolation method {self.method!r} follows time and needs t."
                )
            rows, columns = (TIME_AWARE[self.method](s, axis_dim, base, t) for s in factors)
        else:
            rows, columns = (
                METHODS[self.method](s, axis_dim, base, self.train_length) for s in factors
            )
        return rows, columns

    def magnitude(self, height: int, width: int) -> float:
        """Factor on both cos and sin; attention logits get its square."""
        factor = ATTENTION_SCALES[self.attention_scale](height, width, self.train_length)
        if self.method == "yarn":
            factor *= (
                0.1 * math.log(max(height, width, self.train_length) / self.train_length) + 1.0
            )
        return factor


def unscaled(s: float, axis_dim: int, base: float, train_length: int = 0) -> Tensor:
    """θ_i = base^(−2i/D)."""
    return 1.0 / base ** (torch.arange(0, axis_dim, 2, dtype=torch.float32) / axis_dim)


def linear(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """Position interpolation (arXiv 2306.15595): θ/s."""
    return unscaled(s, axis_dim, base, train_length) / s


def ntk(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """NTK-aware scaling: the base grows to base·s^(D/(D−2))."""
    if axis_dim <= 2:  # a single frequency is 1 whatever the base
        return unscaled(s, axis_dim, base, train_length)
    return unscaled(s, axis_dim, base * s ** (axis_dim / (axis_dim - 2)), train_length)


def ntk_by_parts(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """NTK-by-parts: unscaled where a wave turns often within the trained length, PI where it turns less than once, NTK between."""
    slow = _ramp(axis_dim, base, train_length, 1.25, 0.75)
    mixed = torch.lerp(
        ntk(s, axis_dim, base, train_length), linear(s, axis_dim, base, train_length), slow
    )
    return torch.lerp(
        unscaled(s, axis_dim, base, train_length), mixed, _ramp(axis_dim, base, train_length, 16, 2)
    )


def yarn(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """YaRN (arXiv 2309.00071): unscaled for fast waves, PI for slow ones; its temperature is in ``Extrapolation.magnitude``."""
    slow = _ramp(axis_dim, base, train_length, 32, 1)
    return torch.lerp(
        unscaled(s, axis_dim, base, train_length), linear(s, axis_dim, base, train_length), slow
    )


def _ramp(axis_dim: int, base: float, train_length: int, fast: float, slow: float) -> Tensor:
    """0 for frequencies that turn more than ``fast`` times within the trained length, 1 for fewer than ``slow``, linear between."""

    def frequency_index(turns: float) -> float:
        return axis_dim * math.log(train_length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(frequency_index(fast)), 0)
    high = min(math.ceil(frequency_index(slow)), axis_dim - 1)
    # Equal ends would divide by zero; a step of a thousandth is a step.
    span = (high - low) or 0.001
    return ((torch.arange(axis_dim // 2, dtype=torch.float32) - low) / span).clamp(0, 1)


def frequency_aware(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """Lumina-Next's frequency-aware scaling: PI from the wave on that is as long as the trained length."""
    pair_of_that_wave = axis_dim / 2 * math.log(train_length / (2 * math.pi)) / math.log(base)
    return _ntk_up_to(torch.tensor(max(pair_of_that_wave, 1.0)), s, axis_dim, base)


def time_aware(s: float, axis_dim: int, base: float, t: Tensor) -> Tensor:
    """Lumina-Next's time-aware scaling: from PI at noise to NTK-aware at data; ``t`` (batch,) to (batch, axis_dim / 2)."""
    return _ntk_up_to(1 + (axis_dim // 2 - 1) * t.float().clamp(0, 1)[:, None], s, axis_dim, base)


def _ntk_up_to(pair: Tensor, s: float, axis_dim: int, base: float) -> Tensor:
    """max((base·s^(D / 2d))^(−2i/D), θ_i / s) of the paper for d = ``pair``, which is θ_i·s^(−min(i/d, 1))."""
    index = torch.arange(axis_dim // 2, dtype=torch.float32, device=pair.device)
    return unscaled(s, axis_dim, base).to(pair.device) * s ** -(index / pair).clamp(max=1.0)


Method = Callable[[float, int, float, int], Tensor]
METHODS: dict[str, Method] = {
    "none": unscaled,
    "linear": linear,
    "ntk": ntk,
    "ntk-by-parts": ntk_by_parts,
    "yarn": yarn,
    "frequency-aware": frequency_aware,
}
TIME_AWARE: dict[str, Callable[[float, int, float, Tensor], Tensor]] = {"time-aware": time_aware}
ALL_METHODS = (*METHODS, *TIME_AWARE)


def _no_scale(height: int, width: int, train_length: int) -> float:
    return 1.0


def _pro1(height: int, width: int, train_length: int) -> float:
    longest = 2 * max(height, width)
    return 1.0 if longest <= train_length else math.sqrt(math.log(longest) / math.log(train_length))


def _pro2(height: int, width: int, train_length: int) -> float:
    tokens = 2 * height * width
    return (
        1.0
        if tokens <= train_length**2
        else math.sqrt(math.log(tokens) / math.log(train_length**2))
    )


def _paper(height: int, width: int, train_length: int) -> float:
    """Logits × max(1, ln N_test / ln N_train), as printed in arXiv 2410.13925: half of it on each of query and key."""
    return math.sqrt(max(1.0, math.log(height * width) / math.log(train_length**2)))


ATTENTION_SCALES: dict[str, Callable[[int, int, int], float]] = {
    "none": _no_scale,
    "pro1": _pro1,
    "pro2": _pro2,
    "paper": _paper,
}

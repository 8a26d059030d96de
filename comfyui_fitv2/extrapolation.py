"""Training-free RoPE extrapolation: rotary frequencies for grids longer than the trained one.

One function a method, one registry. Notation of the FiT paper (arXiv 2402.12376, section 3.3): D is the rotary width of
one axis (half a head), θ_i = base^(−2i/D), L the trained tokens a side, s = max(length / L, 1). "Coupled" takes s from the
longer side for both axes; "decoupled" (the paper's Vision* methods) gives each axis its own.

The released weights follow the public code where paper and code differ; so do the methods here, and the paper's own
attention scale is ``paper``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """How rotary frequencies are stretched. ``method`` is a key of ``METHODS``, ``attention_scale`` one of
    ``ATTENTION_SCALES``; ``train_length`` is in tokens a side. Raises ``ValueError`` on other values."""

    method: str = "none"
    decoupled: bool = True
    attention_scale: str = "none"
    train_length: int = 16

    def __post_init__(self) -> None:
        for what, value, known in (("method", self.method, METHODS), ("attention_scale", self.attention_scale, ATTENTION_SCALES)):
            if value not in known:
                raise ValueError(f"Extrapolation {what} {value!r} is unknown. There are: {', '.join(known)}.")
        if self.train_length < 2:
            raise ValueError(f"Extrapolation train_length must be 2 tokens or more, not {self.train_length}.")

    def frequencies(self, height: int, width: int, axis_dim: int, base: float) -> tuple[Tensor, Tensor]:
        """Rotary frequencies, (axis_dim / 2,) fp32 each, for the rows and the columns of a ``height`` × ``width`` token grid."""
        lengths = (height, width) if self.decoupled else (max(height, width),) * 2
        rows, columns = (METHODS[self.method](max(n / self.train_length, 1.0), axis_dim, base, self.train_length) for n in lengths)
        return rows, columns

    def magnitude(self, height: int, width: int) -> float:
        """Factor on both cos and sin; attention logits get its square."""
        factor = ATTENTION_SCALES[self.attention_scale](height, width, self.train_length)
        if self.method == "yarn":
            factor *= 0.1 * math.log(max(height, width, self.train_length) / self.train_length) + 1.0
        return factor


def unscaled(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
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
    mixed = torch.lerp(ntk(s, axis_dim, base, train_length), linear(s, axis_dim, base, train_length), slow)
    return torch.lerp(unscaled(s, axis_dim, base, train_length), mixed, _ramp(axis_dim, base, train_length, 16, 2))


def yarn(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """YaRN (arXiv 2309.00071): unscaled for fast waves, PI for slow ones; its temperature is in ``Extrapolation.magnitude``."""
    slow = _ramp(axis_dim, base, train_length, 32, 1)
    return torch.lerp(unscaled(s, axis_dim, base, train_length), linear(s, axis_dim, base, train_length), slow)


def _ramp(axis_dim: int, base: float, train_length: int, fast: float, slow: float) -> Tensor:
    """0 for frequencies that turn more than ``fast`` times within the trained length, 1 for fewer than ``slow``, linear between."""

    def frequency_index(turns: float) -> float:
        return axis_dim * math.log(train_length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(frequency_index(fast)), 0)
    high = min(math.ceil(frequency_index(slow)), axis_dim - 1)
    # Equal ends would divide by zero; a step of a thousandth is a step.
    span = (high - low) or 0.001
    return ((torch.arange(axis_dim // 2, dtype=torch.float32) - low) / span).clamp(0, 1)


Method = Callable[[float, int, float, int], Tensor]
METHODS: dict[str, Method] = {"none": unscaled, "linear": linear, "ntk": ntk, "ntk-by-parts": ntk_by_parts, "yarn": yarn}


def _no_scale(height: int, width: int, train_length: int) -> float:
    return 1.0


def _pro1(height: int, width: int, train_length: int) -> float:
    longest = 2 * max(height, width)
    return 1.0 if longest <= train_length else math.sqrt(math.log(longest) / math.log(train_length))


def _pro2(height: int, width: int, train_length: int) -> float:
    tokens = 2 * height * width
    return 1.0 if tokens <= train_length**2 else math.sqrt(math.log(tokens) / math.log(train_length**2))


def _paper(height: int, width: int, train_length: int) -> float:
    """Logits × max(1, ln N_test / ln N_train), as printed in arXiv 2410.13925: half of it on each of query and key."""
    return math.sqrt(max(1.0, math.log(height * width) / math.log(train_length**2)))


ATTENTION_SCALES: dict[str, Callable[[int, int, int], float]] = {"none": _no_scale, "pro1": _pro1, "pro2": _pro2, "paper": _paper}

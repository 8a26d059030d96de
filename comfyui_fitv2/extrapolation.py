"""Training-free RoPE extrapolation: rotary frequencies for grids longer than the trained one.

One function per method, one registry. Notation of the FiT paper (arXiv 2402.12376, section 3.3): D
is the rotary width of one axis (half a head), θ_i = base^(−2i/D), L the trained tokens per side and
s = max(length / L, 1). "Coupled" takes s from the longer side for both axes; "decoupled" (the
paper's Vision* methods) gives each axis its own.

The released weights follow the public code where paper and code differ; so do the methods here, and
the paper's own attention scale is ``paper``. Lumina-Next's two methods (arXiv 2406.18583, section
2.3) are both here in one form: frequencies are NTK-scaled up to the one where NTK and PI agree, and
PI-scaled beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .devices import copied_to
from .recommendation import Recommendation
from .typed_text import plain_signs

if TYPE_CHECKING:
    from .config import FiTConfig

AUTO = "auto"
"""The method that is chosen for each size, as the model's checkpoint recommends."""
_WITHOUT_RECOMMENDATION = "ntk"
"""What the authors use with their own checkpoints (arXiv 2410.13925, section 3.3)."""


@dataclass(frozen=True)  # no slots: torch.compile refers to it weakly in older versions
class Extrapolation:
    """How rotary frequencies are stretched beyond the trained length.

    Raises ``ValueError`` for an unknown method or attention scale and a ``train_length`` below 2.
    """

    method: str = "none"
    """One of ``METHOD_CHOICES``: those of ``ALL_METHODS``, or ``AUTO``."""
    decoupled: bool = True
    """Whether height and width are stretched independently."""
    attention_scale: str = "none"
    """One of ``ATTENTION_SCALES``: sharpens attention over more tokens than trained."""
    train_length: int | None = None
    """Trained tokens per side. None is the model's own, which ``for_model`` fills in."""
    recommended: tuple[Recommendation, ...] = ()
    """What ``AUTO`` chooses from, from small images to large ones; ``for_model`` fills it in."""

    def __post_init__(self) -> None:
        for what, value, known in (
            ("method", self.method, METHOD_CHOICES),
            ("attention_scale", self.attention_scale, ATTENTION_SCALES),
        ):
            if value not in known:
                raise ValueError(
                    f"Extrapolation {what} {value!r} is unknown. Choose from {', '.join(known)}."
                )
        if self.train_length is not None and self.train_length < 2:
            raise ValueError(
                f"Extrapolation train_length must be 2 tokens or more, not {self.train_length}."
            )

    def for_model(
        self, config: FiTConfig, recommended: Sequence[Recommendation] | None = None
    ) -> Extrapolation:
        """The same with the model's ``train_length``, unless it has one of its own.

        ``AUTO`` also gets what is ``recommended`` for the model, or else the method that the model
        was trained with, or else ntk.
        """
        filled = self
        if self.train_length is None:
            filled = replace(self, train_length=config.train_length)
        if self.method != AUTO or self.recommended:
            return filled
        trained_with = config.extrapolation
        method = _WITHOUT_RECOMMENDATION if trained_with == "none" else trained_with
        otherwise = Recommendation(None, method, decoupled=config.decoupled)
        return replace(filled, recommended=tuple(recommended or ()) or (otherwise,))

    def at(self, height: int, width: int) -> Extrapolation:
        """What it is on a ``height`` × ``width`` token grid: itself, or what ``AUTO`` chooses.

        Within the trained length that is nothing. An attention scale of its own stays, and so does
        a coupling of both axes. Raises ``ValueError`` where ``for_model`` is still to be called.
        """
        if self.method != AUTO:
            return self
        factor = max(height, width) / self._length
        chosen = Recommendation(None, "none")
        if factor > 1:
            fitting = [r for r in self.recommended if r.up_to is None or factor <= r.up_to]
            chosen = (fitting or self.recommended[-1:])[0]
        scale = chosen.attention_scale if self.attention_scale == "none" else self.attention_scale
        decoupled = self.decoupled and chosen.decoupled
        return Extrapolation(chosen.method, decoupled, scale, self.train_length)

    @property
    def label(self) -> str:
        """The name that ``parse`` reads, such as "ntk", "yarn coupled" or "ntk + pro2"."""
        coupling = "" if self.decoupled or self.method == "none" else " coupled"
        scale = "" if self.attention_scale == "none" else f" + {self.attention_scale}"
        return f"{self.method}{coupling}{scale}"

    @classmethod
    def parse(cls, text: str) -> Extrapolation:
        """The reverse of ``label``; spaces and case do not matter.

        Raises ``ValueError`` that says how to write one.
        """
        method, _, scale = (part.strip() for part in plain_signs(text).lower().partition("+"))
        name, _, coupling = (part.strip() for part in method.partition(" "))
        if coupling not in ("", "coupled", "decoupled"):
            raise ValueError(
                f'{text.strip()!r} is not an extrapolation. Write a method, then "coupled" if both '
                'axes scale alike, then "+" and an attention scale: "yarn coupled", "ntk + pro2".'
            )
        return cls(name or "none", coupling != "coupled", scale or "none")

    @property
    def follows_time(self) -> bool:
        """Whether the frequencies depend on the flow's time. For ``AUTO`` ask that of ``at``."""
        return self.method in TIME_AWARE

    def factors(self, height: int, width: int) -> tuple[float, float]:
        """How far a ``height`` × ``width`` token grid exceeds the trained length, at least 1.

        One factor for its rows and one for its columns.
        """
        decoupled = self.at(height, width).decoupled
        lengths = (height, width) if decoupled else (max(height, width),) * 2
        return max(lengths[0] / self._length, 1.0), max(lengths[1] / self._length, 1.0)

    def changes(self, height: int, width: int, config: FiTConfig | None = None) -> bool:
        """Whether anything differs from plain RoPE on this token grid.

        Some methods change nothing slightly beyond the trained length. Only with the model's
        ``config`` is this known; without it they count as a change.
        """
        if self.magnitude(height, width) != 1.0:
            return True
        chosen, longest = self.at(height, width), max(self.factors(height, width))
        if chosen.method == "none" or longest == 1.0:
            return False
        if config is None or chosen.follows_time:
            return True
        of_axis = (config.head_dim // 2, config.rope_base, self._length)
        return not torch.equal(METHODS[chosen.method](longest, *of_axis), unscaled(1.0, *of_axis))

    def frequencies(
        self, height: int, width: int, axis_dim: int, base: float, t: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rotary frequencies for rows and columns of a token grid, (axis_dim / 2,) fp32 each.

        Methods that follow time need ``t`` (batch,) in [0, 1], 1 = data, and give
        (batch, axis_dim / 2) on its device; without it they raise ``ValueError``.
        """
        if self.method == AUTO:
            return self.at(height, width).frequencies(height, width, axis_dim, base, t)
        if self.follows_time and t is None:
            raise ValueError(f"The extrapolation method {self.method!r} follows time and needs t.")

        def of_axis(s: float) -> Tensor:
            if self.follows_time and t is not None:
                return TIME_AWARE[self.method](s, axis_dim, base, t)
            return METHODS[self.method](s, axis_dim, base, self._length)

        of_rows, of_columns = self.factors(height, width)
        return of_axis(of_rows), of_axis(of_columns)

    def magnitude(self, height: int, width: int) -> float:
        """Factor on both cos and sin; attention logits get its square."""
        if self.method == AUTO:
            return self.at(height, width).magnitude(height, width)
        factor = ATTENTION_SCALES[self.attention_scale](height, width, self._length)
        if self.method == "yarn":
            factor *= 0.1 * math.log(max(height, width, self._length) / self._length) + 1.0
        return factor

    @property
    def _length(self) -> int:
        if self.train_length is None or (self.method == AUTO and not self.recommended):
            raise ValueError(f"{self} has no train_length: take its for_model(config).")
        return self.train_length


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
    """NTK-by-parts: by the number of turns that a wave makes within the trained length.

    Waves that turn often stay as they are, those that turn less than once get PI, others NTK.
    """
    fast, middle, slow = (
        method(s, axis_dim, base, train_length) for method in (unscaled, ntk, linear)
    )
    middle_or_slow = torch.lerp(middle, slow, _ramp(axis_dim, base, train_length, 1.25, 0.75))
    return torch.lerp(fast, middle_or_slow, _ramp(axis_dim, base, train_length, 16, 2))


def yarn(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """YaRN (arXiv 2309.00071): unscaled for fast waves, PI for slow ones.

    Its temperature is part of ``Extrapolation.magnitude``.
    """
    fast, slow = (method(s, axis_dim, base, train_length) for method in (unscaled, linear))
    return torch.lerp(fast, slow, _ramp(axis_dim, base, train_length, 32, 1))


def _ramp(axis_dim: int, base: float, train_length: int, fast: float, slow: float) -> Tensor:
    """0 for waves that turn more than ``fast`` times within the trained length, 1 for fewer than
    ``slow``, and linear between."""

    def frequency_index(turns: float) -> float:
        return axis_dim * math.log(train_length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(frequency_index(fast)), 0)
    high = min(math.ceil(frequency_index(slow)), axis_dim - 1)
    # Equal ends would divide by zero; over a thousandth the ramp is a step.
    span = (high - low) or 0.001
    return ((torch.arange(axis_dim // 2, dtype=torch.float32) - low) / span).clamp(0, 1)


def frequency_aware(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """Lumina-Next's frequency-aware scaling: PI for waves longer than the trained length."""
    pair_of_that_wave = axis_dim / 2 * math.log(train_length / (2 * math.pi)) / math.log(base)
    return _ntk_up_to(torch.tensor(max(pair_of_that_wave, 1.0)), s, axis_dim, base)


def time_aware(s: float, axis_dim: int, base: float, t: Tensor) -> Tensor:
    """Lumina-Next's time-aware scaling, from PI at noise to NTK at data.

    ``t`` is (batch,), the result (batch, axis_dim / 2).
    """
    return _ntk_up_to(1 + (axis_dim // 2 - 1) * t.float().clamp(0, 1)[:, None], s, axis_dim, base)


def riflex(s: float, axis_dim: int, base: float, train_length: int) -> Tensor:
    """RIFLEx (arXiv 2502.15894): one wave is slowed to a single turn over the whole length.

    It is the wave whose period is nearest to the trained length, which would make the image repeat.
    Its frequency becomes 2π/(L·s) where that is lower, as in the paper's equation 8; the authors'
    code for videos takes 0.9 of it.
    """
    frequencies = unscaled(s, axis_dim, base, train_length)
    if s > 1:
        nearest = (2 * math.pi / frequencies - train_length).abs().argmin()
        frequencies[nearest].clamp_(max=2 * math.pi / (train_length * s))
    return frequencies


def _ntk_up_to(pair: Tensor, s: float, axis_dim: int, base: float) -> Tensor:
    """θ_i·s^(−min(i/d, 1)) with d = ``pair``; printed as max((base·s^(D/2d))^(−2i/D), θ_i/s)."""
    index = torch.arange(axis_dim // 2, dtype=torch.float32, device=pair.device)
    return copied_to(pair.device, unscaled(s, axis_dim, base)) * s ** -(index / pair).clamp(max=1.0)


Method = Callable[[float, int, float, int], Tensor]
METHODS: dict[str, Method] = {
    "none": unscaled,
    "linear": linear,
    "ntk": ntk,
    "ntk-by-parts": ntk_by_parts,
    "yarn": yarn,
    "frequency-aware": frequency_aware,
    "riflex": riflex,
}
TIME_AWARE: dict[str, Callable[[float, int, float, Tensor], Tensor]] = {"time-aware": time_aware}
ALL_METHODS = (*METHODS, *TIME_AWARE)
METHOD_CHOICES = (AUTO, *ALL_METHODS)


def _no_scale(height: int, width: int, train_length: int) -> float:
    return 1.0


def _pro1(height: int, width: int, train_length: int) -> float:
    longest = 2 * max(height, width)
    return 1.0 if longest <= train_length else math.sqrt(math.log(longest) / math.log(train_length))


def _pro2(height: int, width: int, train_length: int) -> float:
    tokens, trained = 2 * height * width, train_length**2
    return 1.0 if tokens <= trained else math.sqrt(math.log(tokens) / math.log(trained))


def _paper(height: int, width: int, train_length: int) -> float:
    """Logits × max(1, ln N_test / ln N_train), as printed in arXiv 2410.13925.

    Query and key get the square root of it each.
    """
    return math.sqrt(max(1.0, math.log(height * width) / math.log(train_length**2)))


ATTENTION_SCALES: dict[str, Callable[[int, int, int], float]] = {
    "none": _no_scale,
    "pro1": _pro1,
    "pro2": _pro2,
    "paper": _paper,
}

"""When a step is skipped, and when the run stops because of skipped steps."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

from .config import GuardConfig

_FEW_NORMS = 20
"""Norms to have seen before one can be called extreme."""


class TrainingError(ValueError):
    """A run that cannot continue well; the message says what happened and what to do."""


class StepGuard:
    """Judges each step by its gradient norm, which is the same on every process."""

    def __init__(self, config: GuardConfig, norms: Iterable[float | None] = ()) -> None:
        self.config = config
        self.norms: deque[float | None] = deque(norms, maxlen=config.window)
        """Gradient norms of the recent steps; None for a skipped one."""

    def accepts(self, norm: float) -> bool:
        """Whether the step should be taken.

        Raises ``TrainingError`` where too many of the recent steps were skipped.
        """
        taken = [n for n in self.norms if n is not None]
        enough = len(self.norms) >= min(_FEW_NORMS, self.config.window)
        usual = median(taken) if taken and enough else math.inf
        good = math.isfinite(norm) and norm <= max(usual, 1e-12) * self.config.gradient_factor
        self.norms.append(norm if good else None)
        skipped = sum(n is None for n in self.norms)
        if skipped >= self.config.limit:
            raise TrainingError(
                f"{skipped} of the last {len(self.norms)} steps had gradients that were not "
                f"finite, or more than {self.config.gradient_factor:g} times the usual norm (the "
                f"last: {norm:g}; usual: {usual:g}). Lower optimizer.learning_rate or raise "
                "optimizer.warmup_steps, check the latent set for values out of range, or try "
                "--precision fp32; with --resume latest these may change."
            )
        return good

    def forget_skipped(self) -> None:
        """Count no step of the past as skipped, after what was wrong with them has changed."""
        taken = [norm for norm in self.norms if norm is not None]
        self.norms = deque(taken, maxlen=self.config.window)

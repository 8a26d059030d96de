"""AdamW, or Muon beside it, with a learning rate of its own for some weights; the schedule, and when a step is thrown away."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from statistics import median

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import AdamW, Muon, Optimizer

from .config import ConfigError, GuardConfig, OptimizerConfig

_FEW_NORMS = 20
"""Norms to have seen before one can be called extreme."""


class TrainingError(ValueError):
    """A run that cannot go on well; the message says what happened and what to do."""


class MuonAdamW(Optimizer):
    """One optimizer of two, each for its own parameters."""

    def __init__(self, muon: Muon, adamw: AdamW) -> None:
        self._parts: tuple[Optimizer, ...] = (muon, adamw)
        super().__init__(
            [
                {**group, "muon": part is muon}
                for part in self._parts
                for group in part.param_groups
            ],
            {},
        )  # pyright: ignore[reportArgumentType]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for part in self._parts:
            # Lent anew at each step: loading a state replaces them.
            part.param_groups = [
                group for group in self.param_groups if group["muon"] == isinstance(part, Muon)
            ]
            part.state = self.state
            part.step()


def make_optimizer(parameters: Mapping[str, Parameter], config: OptimizerConfig) -> Optimizer:
    """The optimizer of named ``parameters``, grouped by learning rate and weight decay. Raises ``ConfigError`` on a multiplier that finds no parameter, and
    where Muon finds no matrix."""
    unused = set(config.multipliers)
    groups: dict[tuple[float, float, bool], list[Parameter]] = {}
    for name, parameter in parameters.items():
        found = next((pattern for pattern in config.multipliers if re.search(pattern, name)), None)
        unused.discard(found or "")
        decays = parameter.ndim > 1 and not name.startswith("y_embedder.")
        by_muon = config.kind == "muon" and parameter.ndim == 2 and name.startswith("blocks.")
        key = (
            config.multipliers[found] if found else 1.0,
            config.weight_decay if decays else 0.0,
            by_muon,
        )
        groups.setdefault(key, []).append(parameter)
    if unused:
        raise ConfigError(_unfound(sorted(unused)[0], parameters))
    matrices, others = (
        [
            {"params": members, "multiplier": factor, "weight_decay": decay}
            for (factor, decay, by_muon), members in groups.items()
            if by_muon == wanted
        ]
        for wanted in (True, False)
    )
    if config.kind == "muon" and not (matrices and others):
        raise ConfigError(
            "optimizer.kind: muon is for matrices of blocks beside other weights, and only one of the two is trained. Set it to adamw."
        )
    adamw = AdamW(others, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
    return (
        MuonAdamW(Muon(matrices, lr=config.learning_rate, adjust_lr_fn="match_rms_adamw"), adamw)
        if matrices
        else adamw
    )


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """That of step ``step``, counted from 0, before multipliers: a rise over the warm-up, then as the schedule says."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
    return config.learning_rate * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["multiplier"]


class StepGuard:
    """Judges each step by its gradient norm, which every process knows alike."""

    def __init__(self, config: GuardConfig, norms: Iterable[float | None] = ()) -> None:
        self.config = config
        self.norms: deque[float | None] = deque(norms, maxlen=config.window)
        """Of the recent steps; None for a skipped one."""

    def accepts(self, norm: Tensor | float) -> bool:
        """Whether the step should be taken. Raises ``TrainingError`` where too many of the recent ones were not."""
        norm = float(norm)
        taken = [n for n in self.norms if n is not None]
        usual = (
            median(taken)
            if taken and len(self.norms) >= min(_FEW_NORMS, self.config.window)
            else math.inf
        )
        good = math.isfinite(norm) and norm <= max(usual, 1e-12) * self.config.gradient_factor
        self.norms.append(norm if good else None)
        skipped = sum(n is None for n in self.norms)
        if skipped >= self.config.limit:
            raise TrainingError(
                f"{skipped} of the last {len(self.norms)} steps had gradients that were not finite, or more than {self.config.gradient_factor:g} times the "
                f"usual norm (the last: {norm:g}; usual: {usual:g}). Lower optimizer.learning_rate or lengthen optimizer.warmup_steps, look at the latent "
                "set for values out of range, or try --precision fp32. Earlier checkpoints are untouched."
            )
        return good


def _unfound(pattern: str, names: Iterable[str]) -> str:
    parts = {".".join(name.split(".")[:length]) for name in names for length in (1, 2, 3)}
    nearest = get_close_matches(pattern, sorted(parts), n=1)
    return f"optimizer.multipliers: {pattern!r} is found in no trained weight's name.{f' Did you mean {nearest[0]}?' if nearest else ''}"

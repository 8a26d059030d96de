"""AdamW, alone or together with Muon, learning rates per weight, and their schedule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from torch.nn import Parameter
from torch.optim import AdamW, Muon, Optimizer

from .config import ConfigError, OptimizerConfig

_Groups = dict[tuple[float, float], list[Parameter]]
"""Parameters by learning-rate multiplier and weight decay."""


def make_optimizers(
    parameters: Mapping[str, Parameter], config: OptimizerConfig
) -> tuple[Optimizer, ...]:
    """The optimizers of named ``parameters``: AdamW, or Muon for matrices of blocks and AdamW.

    Parameters are grouped by learning rate and weight decay. Raises ``ConfigError`` on a multiplier
    that matches no name, and where Muon would have no matrix or AdamW nothing.
    """
    _refuse_unused(config.multipliers, parameters)
    by_muon: _Groups = {}
    by_adamw: _Groups = {}
    for name, parameter in parameters.items():
        is_matrix = parameter.ndim == 2 and name.startswith("blocks.")
        groups = by_muon if config.kind == "muon" and is_matrix else by_adamw
        decays = parameter.ndim > 1 and not name.startswith("y_embedder.")
        key = _multiplier(name, config.multipliers), config.weight_decay if decays else 0.0
        groups.setdefault(key, []).append(parameter)
    if config.kind == "muon" and not (by_muon and by_adamw):
        raise ConfigError(
            "optimizer.kind: muon is for matrices of blocks, with AdamW for other weights, and "
            "only one of the two kinds is trained. Set it to adamw."
        )
    rate = config.learning_rate
    adamw = AdamW(_groups(by_adamw), lr=rate, betas=config.betas, eps=config.eps, fused=True)
    if not by_muon:
        return (adamw,)
    return Muon(_groups(by_muon), lr=rate, adjust_lr_fn="match_rms_adamw"), adamw


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """The learning rate of step ``step``, counted from 0, before multipliers."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
    return config.learning_rate * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def set_learning_rate(optimizers: Sequence[Optimizer], rate: float) -> None:
    """Set the learning rate of every group to ``rate`` times its multiplier."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["multiplier"]


def _groups(groups: _Groups) -> list[dict[str, Any]]:
    return [
        {"params": members, "multiplier": multiplier, "weight_decay": decay}
        for (multiplier, decay), members in groups.items()
    ]


def _multiplier(name: str, multipliers: Mapping[str, float]) -> float:
    """The factor of the first pattern that is found in ``name``, else 1."""
    return next((m for pattern, m in multipliers.items() if re.search(pattern, name)), 1.0)


def _refuse_unused(multipliers: Mapping[str, float], names: Iterable[str]) -> None:
    first_matches = {next((p for p in multipliers if re.search(p, name)), "") for name in names}
    if unused := sorted(set(multipliers) - first_matches):
        parts = {".".join(name.split(".")[:length]) for name in names for length in (1, 2, 3)}
        nearest = get_close_matches(unused[0], sorted(parts), n=1)
        meant = f" Did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(
            f"optimizer.multipliers: {unused[0]!r} matches no trained weight's name.{meant}"
        )

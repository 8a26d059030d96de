"""How much arithmetic training takes, and how much the machine can do.

Model FLOPs utilisation is the first over the second: the share of the machine's rate of bf16 matrix
products that goes into the model's own products. Recomputation and padding do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .packing import StepTotals

_CPU_SIDE, _GPU_SIDE = 1536, 8192
_MEASURED_SECONDS = 0.4
_ROUNDS = 3
_PER_IMAGE = ("t_embedder.", "adaLN_modulation.")
"""Layers that run once per image, not once per token."""


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """FLOPs of a forward and backward pass.

    Per token 6 for each weight of a matrix, 4 for a frozen one. In attention 12 per pair of tokens
    and unit of width: two products of 2 FLOPs, once forward and twice backward.
    """

    per_token: int
    per_image: int
    per_pair: int
    """Per pair of tokens of one image."""

    @classmethod
    def of(cls, model: nn.Module, hidden_size: int, depth: int) -> TrainingCost:
        """The cost of a FiT; its weights may be sharded or frozen."""
        costs = {True: 0, False: 0}
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear):
                matrices = [p for p in module.parameters(recurse=False) if p.ndim == 2]
                costs[any(part in f"{name}." for part in _PER_IMAGE)] += sum(
                    (6 if p.requires_grad else 4) * p.numel() for p in matrices
                )
        return cls(per_token=costs[False], per_image=costs[True], per_pair=12 * hidden_size * depth)

    def flops(self, totals: StepTotals) -> int:
        """The FLOPs of a step."""
        return (
            self.per_token * totals.tokens
            + self.per_image * totals.images
            + self.per_pair * totals.pairs
        )


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> float:
    """FLOP/s of products of square matrices on ``device``.

    The best of three rounds, each under half a second.
    """
    side = _CPU_SIDE if device.type == "cpu" else _GPU_SIDE
    a, b = (
        torch.randn(side, side, generator=torch.Generator().manual_seed(i)).to(device, dtype)
        for i in range(2)
    )
    # The first product also pays for setting up: a fast machine is timed once more, over many.
    once, times = _seconds(lambda: a @ b, 1, device), 1
    if once < _MEASURED_SECONDS:
        once = _seconds(lambda: a @ b, 1, device)
        times = max(1, int(_MEASURED_SECONDS / max(once, 1e-6)))
    return 2 * side**3 / min(_seconds(lambda: a @ b, times, device) for _ in range(_ROUNDS))


def _seconds(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Mean seconds of a call of ``work``."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return (time.perf_counter() - start) / times

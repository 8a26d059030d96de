"""Which size of a micro-batch fits into memory, and how fast it is: measured at several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..processes import of_all
from .probe import Probe, budget_of, memory_meter, probe
from .run import TrainingRun

_PARTS = (8, 4, 1)
"""Budgets to measure, as parts of the configured one."""
_USABLE = 0.9
"""Share of the memory that a budget may fill."""


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """Memory as a line over the tokens of a micro-batch."""

    constant: float
    per_token: float

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> MemoryLine | None:
        """None where the memory of different budgets is not known to differ."""
        tokens = np.array([p.fullest for p in probes], float)
        memory = np.array([p.memory for p in probes], float)
        if len(set(tokens)) < 2:
            return None
        per_token, constant = np.polyfit(tokens, memory, 1)
        return cls(float(constant), float(per_token)) if per_token > 0 else None

    def tokens_within(self, memory: float) -> int:
        return max(int((memory - self.constant) / self.per_token), 0)


def available_memory(run: TrainingRun) -> int:
    """Bytes that each process may use; on a CPU the processes share them. 0 where unknown.

    It is that of the process with the least, so that all of them decide alike what to measure.
    """
    device = run.accelerator.device
    sharing = run.accelerator.num_processes if device.type == "cpu" else 1
    return min(of_all(run.accelerator, memory_meter(device).available())) // sharing


def measure_budgets(run: TrainingRun) -> tuple[list[Probe], str]:
    """Measurements at rising budgets, and why the configured one was not measured, if so."""
    batch, available = run.config.batch, available_memory(run)
    configured = budget_of(batch)
    least = int(run.examples.lengths.max()) if batch.packing == "packed" else 1
    probes: list[Probe] = []
    for budget in sorted({max(configured // part, least) for part in _PARTS}):
        fit = MemoryLine.of(probes)
        if fit and available and budget == configured:
            last = probes[-1]
            needed = fit.constant + fit.per_token * budget * last.fullest / last.budget
            if needed > available:
                return probes, f"{gib(needed)} would be needed"
        try:
            probes.append(probe(run, budget))
        except MemoryError:
            if run.accelerator.num_processes > 1:
                raise  # the others still measure
            return probes, f"it ran out at {budget:,}"
    return probes, ""


def full_step(run: TrainingRun, probes: Sequence[Probe]) -> Probe:
    """A step with the configured budget and accumulation."""
    last, configured = probes[-1], budget_of(run.config.batch)
    scale = configured / last.budget
    micro = replace(
        last,
        budget=configured,
        tokens=last.tokens * scale,
        images=last.images * scale,
        seconds=last.seconds * scale,
    )
    accumulation = run.config.batch.accumulation
    if accumulation == 1:
        return micro
    two = probe(run, last.budget, accumulation=2)
    more = (two.seconds - last.seconds) * scale * (accumulation - 1)
    return replace(
        micro,
        tokens=micro.tokens * accumulation,
        images=micro.images * accumulation,
        seconds=micro.seconds + max(more, 0.0),
    )


def room(run: TrainingRun, fit: MemoryLine | None, available: int) -> int:
    """The largest sensible budget, a round number; 0 where none is known."""
    batch, lengths = run.config.batch, run.examples.draws.drawn_lengths
    if fit is None or not available:
        return 0
    tokens = min(fit.tokens_within(_USABLE * available), int(lengths.max(axis=1).sum()))
    if batch.packing == "padded":
        return tokens // int(lengths.max())
    digit = 256 if tokens < 16384 else 4096
    rounded = tokens // digit * digit
    return rounded if rounded >= int(lengths.max()) else 0


def checkpointing_advice(run: TrainingRun, probes: Sequence[Probe], needed: bool) -> str:
    """Whether to recompute activations; where memory is short, with the budget that then fits."""
    if run.config.activation_checkpointing:
        return "on" if needed else "on, and not needed: without it steps are about a quarter faster"
    if not needed:
        return "not needed"
    model = run.state.model
    model.activation_checkpointing = True
    try:
        fit = MemoryLine.of([probe(run, p.budget, once=True) for p in probes])
    except MemoryError:
        if run.accelerator.num_processes > 1:
            raise  # the others still measure
        fit = None
    finally:
        model.activation_checkpointing = False
    most = room(run, fit, available_memory(run))
    fits = f": up to about {most:,} then fit" if most else ""
    return f"advised, --activation-checkpointing{fits}; steps take about a third longer"


def gib(size: float) -> str:
    """A number of bytes, such as "1.73 GiB" or "41 MiB"."""
    if size < 0.1 * 2**30:
        return f"{size / 2**20:,.0f} MiB"
    return f"{size / 2**30:,.2f} GiB" if size < 10 * 2**30 else f"{size / 2**30:,.0f} GiB"

"""Training steps that are only measured: how long they take, and how much memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ..failures import is_out_of_memory
from ..processes import of_all
from .config import BatchConfig
from .packing import Position
from .run import TrainingRun
from .step import training_step
from .training_set import micro_batches

_SECONDS, _MOST_STEPS = 5.0, 12
"""A budget is measured for this long, in at most so many steps, after one that warms up."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a step of one micro-batch per process takes."""

    budget: int
    """Tokens of a packed micro-batch, or images of a padded one."""
    tokens: float
    """Tokens of a step, of all processes, on average."""
    images: float
    """Images of a step, likewise."""
    fullest: int
    """Tokens, with padding, of the largest micro-batch."""
    seconds: float
    memory: int
    """Peak memory in bytes, of the process that has the highest; 0 where it cannot be measured."""


def probe(run: TrainingRun, budget: int, accumulation: int = 1, *, once: bool = False) -> Probe:
    """Take steps with another budget, as training would. The weights change, and are not saved.

    ``once`` takes one step only, for its memory. Every process must ask. Raises ``MemoryError``
    where memory does not suffice.
    """
    batch = with_budget(run.config.batch, budget)
    examples = replace(run.examples, batch=replace(batch, accumulation=accumulation, workers=0))
    accelerator = run.accelerator
    batches = micro_batches(
        examples,
        Position(),
        accelerator.process_index,
        accelerator.num_processes,
        accelerator.device,
    )
    meter = memory_meter(accelerator.device)
    meter.reset()
    steps, times, started = [], [], time.perf_counter()
    while True:
        taken = list(islice(batches, accumulation))
        start = time.perf_counter()
        try:
            training_step(accelerator, run.model, run.optimizers, taken, 1.0, run.state.guard)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from None
            raise
        if accelerator.device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - start)
        steps.append(taken[0].step)
        enough = len(times) > 1 and time.perf_counter() - started > _SECONDS
        # Processes must stop together: one that is slower has waited for the others in the step.
        if once or len(times) > _MOST_STEPS or (enough and accelerator.num_processes == 1):
            break
    return Probe(
        budget,
        tokens=sum(step.tokens for step in steps) / len(steps),
        images=sum(step.images for step in steps) / len(steps),
        fullest=max(step.slots for step in steps) // (accelerator.num_processes * accumulation),
        seconds=median(times[1:] or times),
        memory=max(of_all(accelerator, meter.peak())),
    )


def budget_of(batch: BatchConfig) -> int:
    return batch.token_budget if batch.packing == "packed" else batch.images


def with_budget(batch: BatchConfig, budget: int) -> BatchConfig:
    """The same batch with another size of a micro-batch."""
    if batch.packing == "packed":
        return replace(batch, token_budget=budget)
    return replace(batch, images=budget)


@dataclass(frozen=True, slots=True)
class MemoryMeter:
    """Peak memory of this process on a device, in bytes."""

    reset: Callable[[], None]
    """Forget the peak, where the system can; else it is that since the process started."""
    peak: Callable[[], int]
    available: Callable[[], int]
    """What the process could use in all; 0 where unknown."""


def memory_meter(device: torch.device) -> MemoryMeter:
    """CUDA and XPU count what tensors take; on a CPU it is the peak of resident memory."""
    if device.type in ("cuda", "xpu"):
        module: Any = getattr(torch, device.type)
        return MemoryMeter(
            lambda: module.reset_peak_memory_stats(device),
            lambda: module.max_memory_allocated(device),
            lambda: module.mem_get_info(device)[0] + module.memory_reserved(device),
        )
    if device.type == "mps":
        return MemoryMeter(
            lambda: None, torch.mps.driver_allocated_memory, torch.mps.recommended_max_memory
        )
    return MemoryMeter(_reset_peak, _peak, _available)


def _reset_peak() -> None:
    # Elsewhere than on Linux the peak is that of the largest budget, which is measured last.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    if kibibytes := _proc("/proc/self/status", "VmHWM"):
        return kibibytes * 1024
    try:
        import resource  # Windows has none
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if os.uname().sysname == "Darwin" else peak * 1024


def _available() -> int:
    """What is free, and what this process has already; a container's limit counts."""
    own = _proc("/proc/self/status", "VmRSS") * 1024
    free = _proc("/proc/meminfo", "MemAvailable") * 1024
    limit = free + own if free else 0
    try:
        quota = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return limit
    return min(limit, int(quota) - used + own) if quota.isdigit() and limit else limit


def _proc(file: str, key: str) -> int:
    """A figure in KiB that Linux gives; 0 elsewhere."""
    try:
        lines = Path(file).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)

"""What a run would take, measured with some steps that are not saved: ``--plan``.

    python -m training.train --config tiny --data latents --plan --price-per-hour 2.50

Memory grows in proportion to the tokens of a micro-batch, so a line through measurements at small
budgets tells which budget fits. Nothing is written.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..command_line import OptionError
from .accelerator import NO_TRACKER
from .advice import advice
from .budgets import (
    MemoryLine,
    available_memory,
    checkpointing_advice,
    full_step,
    gib,
    measure_budgets,
    room,
)
from .config import TrainingConfig
from .held_out import TIMES
from .packing import Position, steps_from
from .page import in_words
from .probe import Probe, budget_of
from .process_memory import ProcessMemory
from .run import TrainingRun

NO_OUTPUT = "runs/new"
"""The run's folder of a plan that names none."""
_TIGHT = 0.7
"""Share of the memory above which activation checkpointing is measured too."""
_SMALLER = "Train a smaller model or adapters (--lora.rank), or images of a lower resolution."
_STEPS_COUNTED = 200
_SHARED_BY = (8, 16)
"""Numbers of processes for which the shares of sharded weights are told."""
_NAMED_CLASSES = 3


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options of the command line that a plan takes besides those of training."""

    price_per_hour: float | None = None


def plan_options(argv: Sequence[str]) -> tuple[PlanOptions | None, list[str]]:
    """The options of a plan, None where none is asked for, and the rest of the command line.

    Raises ``OptionError`` on a price that is no number, or without ``--plan``.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--plan", action="store_true")
    own.add_argument("--price-per-hour", "--price_per_hour", type=float)
    try:
        options, rest = own.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise OptionError(str(error)) from None
    if options.plan:
        return PlanOptions(options.price_per_hour), rest
    if options.price_per_hour is not None:
        raise OptionError("--price-per-hour belongs to --plan.")
    return None, rest


def make_plan(config: TrainingConfig, options: PlanOptions) -> str:
    """The plan of a run, as text. Every process must ask; the main process should print it.

    Raises what ``TrainingRun`` raises where the run could not start.
    """
    quiet = replace(config, logging=replace(config.logging, tracker=NO_TRACKER))
    run = TrainingRun(quiet, writes=False)
    probes, refused = measure_budgets(run)
    lines = [*_about(run), *_memory(run, probes, refused), *_parts(run, probes)]
    if probes:
        full = full_step(run, probes)
        lines += [*_time(run, full, options.price_per_hour), *_data(run), _disk(run)]
    width = max(len(name) for name, _ in lines) + 2
    text = [f"{name:{width}}{value}" for name, value in lines]
    notes = advice(run.config, run.examples, _epochs(run), run.state.step)
    text += ["", "worth a look", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join([*text, "", "Nothing was written."])


def _about(run: TrainingRun) -> list[tuple[str, str]]:
    total = sum(p.numel() for p in run.state.model.parameters())
    processes, device = run.accelerator.num_processes, run.accelerator.device
    held_out = f", and {len(run.held_out.indices):,} held out" if run.held_out else ""
    classes = len(run.latents.info.class_names)
    return [
        ("images", f"{len(run.examples.draws):,} of {classes} classes{held_out}"),
        ("model", f"{total / 1e6:,.2f} M parameters"),
        *(("", note) for note in run.initial.notes),
        ("device", f"{device.type}, {processes} process{'es' * (processes > 1)}"),
    ]


def _memory(run: TrainingRun, probes: Sequence[Probe], refused: str) -> list[tuple[str, str]]:
    batch, available = run.config.batch, available_memory(run)
    configured = budget_of(batch)
    unit = "tokens" if batch.packing == "packed" else "images"
    of_all = f" of {gib(available)}" if available else ""
    rows = [
        f"{p.budget:,} {unit}: {gib(p.memory)}, {p.tokens / p.seconds:,.0f} tokens/s"
        for p in probes
    ]
    lines = [("measured" if i == 0 else "", row) for i, row in enumerate(rows)]
    if not probes:
        return [("memory", f"even one image does not fit{of_all}: {refused}. {_SMALLER}")]
    most = room(run, MemoryLine.of(probes), available)
    if refused:
        wish = f"Try --batch.token-budget {most}." if most else _SMALLER
        lines.append(("memory", f"{configured:,} {unit} do not fit{of_all}: {refused}. {wish}"))
    else:
        lines.append(("memory", f"{gib(probes[-1].memory)}{of_all} per process"))
        if most > configured:
            lines.append(("budget", f"up to about {most:,} {unit} fit"))
    tight = available and probes[-1].memory > _TIGHT * available
    lines.append(
        ("activation checkpointing", checkpointing_advice(run, probes, bool(refused or tight)))
    )
    return lines


def _parts(run: TrainingRun, probes: Sequence[Probe]) -> list[tuple[str, str]]:
    """What a process holds, and what it would hold of sharded weights."""
    if not probes:
        return []
    memory, last = ProcessMemory.of(run, probes[-1].memory), probes[-1]
    rest = f", activations and the rest {gib(memory.activations)}" if memory.activations else ""
    if rest and last.budget != budget_of(run.config.batch):
        rest += f" at {last.budget:,}"
    share = f", a share of {run.accelerator.num_processes}" if memory.sharded else ""
    lines = [
        (
            "each process",
            f"weights {gib(memory.weights)}, gradients {gib(memory.gradients)}, optimizer "
            f"{gib(memory.optimizer)}, averages {gib(memory.averages)}: {gib(memory.state)}"
            f"{share}{rest}",
        )
    ]
    if not memory.sharded:
        shares = ", ".join(
            f"{gib(memory.state / processes)} on each of {processes}" for processes in _SHARED_BY
        )
        lines.append(("sharded by FSDP2", f"the {gib(memory.state)} would be {shares}"))
    lines.append(
        (
            "host memory",
            f"{gib(memory.ahead)} per process for batches ahead, and {gib(memory.index)} per "
            "machine to know all images",
        )
    )
    return lines


def _time(run: TrainingRun, step: Probe, price_per_hour: float | None) -> list[tuple[str, str]]:
    left = max(run.config.steps - run.state.step, 0)
    rate = step.tokens / step.seconds
    seconds = left * step.seconds
    beside = _beside(run, left) / (3 * rate)  # a forward pass is a third of a step
    share = f", of which {in_words(beside)} for samples and held-out loss" if beside > 1 else ""
    lines = [
        (
            "speed",
            f"{rate:,.0f} tokens/s, {step.images / step.seconds:,.1f} images/s, "
            f"{step.seconds:.2f} s per step",
        ),
        ("time", f"{in_words(seconds + beside)} for {left:,} steps{share}"),
    ]
    if price_per_hour is not None:
        cost = price_per_hour * (seconds + beside) / 3600
        lines.append(("cost", f"{cost:,.2f} at {price_per_hour:,.2f} per hour"))
    return lines


def _beside(run: TrainingRun, steps: int) -> float:
    """Tokens that go forward through the model besides training."""
    config, tokens = run.config, 0.0
    if run.held_out:
        measured = run.examples.lengths[run.held_out.measured, 0].sum() * TIMES
        tokens += float(measured) * (steps // config.held_out.every)
    if run.sheet:
        per_class = sum(size.tokens for size in run.sheet.sizes.values())
        guided = 1 if config.samples.guidance_scale == 1 else 2
        sheet = per_class * len(run.sheet.class_ids) * config.samples.steps * guided
        tokens += sheet * (steps // config.samples.every)
    return tokens


def _epochs(run: TrainingRun) -> float:
    """Passes over the images until the last step, counted over the first steps of the packing."""
    config, draws = run.config, run.examples.draws
    counted = min(config.steps, _STEPS_COUNTED)
    steps = steps_from(Position(), draws, config.batch, config.seed, run.packs_per_step)
    images = sum(step.totals.images for step, _ in zip(steps, range(counted), strict=False))
    return images / counted * config.steps / len(draws)


def _data(run: TrainingRun) -> list[tuple[str, str]]:
    epochs, latents = _epochs(run), run.latents
    per_class = np.bincount(
        latents.class_ids,
        weights=run.examples.draws.per_epoch() * epochs,
        minlength=len(latents.info.class_names),
    )
    held_out = np.zeros(len(latents), bool)
    if run.held_out:
        held_out[run.held_out.indices] = True
    images = np.bincount(latents.class_ids[~held_out], minlength=len(per_class))
    order = [int(i) for i in np.argsort(per_class, kind="stable") if images[i]]
    names = latents.info.class_names

    def described(class_id: int) -> str:
        seen, count = per_class[class_id], images[class_id]
        return f"{names[class_id]} {seen:,.0f} ({count:,} image{'s' * bool(count > 1)})"

    balance = run.config.batch.class_balance
    drawn = f"draws, class balance {balance:g}" if balance else "images"
    lines = [("epochs", f"{epochs:,.1f}, each of {len(run.examples.draws):,} {drawn}")]
    rare = ", ".join(map(described, order[:_NAMED_CLASSES]))
    lines.append(("images seen per class", f"fewest: {rare}"))
    if len(order) > _NAMED_CLASSES:
        lines.append(("", f"most: {described(order[-1])}"))
    if missing := int((images == 0).sum()):
        lines.append(("", f"{missing:,} classes have no image to train on"))
    return lines


def _disk(run: TrainingRun) -> tuple[str, str]:
    """The size of a checkpoint, and of all that are there at once."""
    config, state = run.config, run.state
    adapters = sum(p.numel() for p in state.ema.parameters.values()) if config.lora.rank else 0
    weights = sum(p.numel() for p in state.model.parameters()) - adapters
    moments = sum(
        value.numel()
        for optimizer in state.optimizers
        for values in optimizer.state.values()
        for value in values.values()
        if hasattr(value, "numel")
    )
    averages = len(config.ema_decays)
    size = 4 * (weights * (1 + averages) + moments + adapters * (2 + averages))
    regular = config.steps // config.checkpoints.every if config.checkpoints.every else 0
    kept = min(config.checkpoints.keep, regular + 1)
    kept += sum(step <= config.steps for step in config.checkpoints.milestones)
    kept += 1 + bool(run.held_out)  # one that is being written, and the best
    folder = next(
        path for path in (run.folder.absolute(), *run.folder.absolute().parents) if path.is_dir()
    )
    free = shutil.disk_usage(folder).free
    short = "" if kept * size < free else ": too little"
    return (
        "disk",
        f"{gib(size)} per checkpoint, {gib(kept * size)} at most, of {gib(free)} free{short}",
    )

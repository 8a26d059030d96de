"""What a study will take, from a few steps of each model that are not saved."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..train.accelerator import NO_TRACKER
from ..train.config import TrainingConfig
from ..train.probe import budget_of, probe
from ..train.run import TrainingRun
from ..whole_files import read_json, write_json
from .config import Run, ScalingConfig
from .data import Measured
from .findings import table
from .trained import is_complete, last_step

_FILE = "probes.json"
_FORWARD = 1 / 3
"""Share of a training step that its forward pass takes."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What a training step of a model takes."""

    seconds: float
    tokens: float
    """Tokens of the step."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is still to do, run by run."""

    runs: int
    done: int
    lines: list[str]
    """A table of the models."""
    seconds: float

    def text(self) -> str:
        return "\n".join(
            [
                *self.lines,
                "",
                f"{self.runs} runs, {self.done} of them trained already. About "
                f"{in_hours(self.seconds)} to go on this machine, as busy as it is now "
                f"({torch.get_num_threads()} threads).",
            ]
        )


def in_hours(seconds: float) -> str:
    """Such as "4.2 hours" or "3 minutes"."""
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{max(seconds / 60, 1):.0f} min"


def make_plan(
    config: ScalingConfig,
    trainings: Mapping[Run, TrainingConfig],
    held_out: Sequence[Measured],
    output: Path,
) -> Plan:
    """Probe the models that were not probed before, and add up."""
    rows: dict[tuple[str, str], list[float]] = {}
    done, total = 0, 0.0
    measuring = _measured_tokens(config, held_out)
    for run, training in trainings.items():
        row = rows.setdefault((run.variant, run.size), [training.steps, 0.0, 0.0, 0.0])
        row[3] += 1
        done += is_complete(training)
        speed = _probed(training, output / _FILE)
        row[1] = speed.seconds
        left = training.steps - last_step(training)
        seconds = left * speed.seconds
        if left:
            milestones = len(training.checkpoints.milestones)
            per_token = _FORWARD * speed.seconds / speed.tokens
            seconds += per_token * (measuring.at_milestones * milestones + measuring.at_end)
        row[2] += seconds
        total += seconds
    lines = table(
        ["model", "seeds", "steps", "seconds per step", "still to do"],
        [
            [f"{variant} {size}", f"{count:.0f}", f"{steps:,.0f}", f"{step:.3f}", in_hours(seconds)]
            for (variant, size), (steps, step, seconds, count) in rows.items()
        ],
    )
    return Plan(len(trainings), done, lines, total)


@dataclass(frozen=True, slots=True)
class _Tokens:
    at_milestones: float
    at_end: float


def _measured_tokens(config: ScalingConfig, held_out: Sequence[Measured]) -> _Tokens:
    """Tokens that go through a model to measure it."""
    losses = [
        int(each.latents.lengths[each.indices, 0].sum()) * config.held_out_times
        for each in held_out
    ]
    images, first = 0, 0
    if config.distances is not None:
        passes = config.distances.steps * (1 if config.distances.guidance == 1 else 2)
        for each in held_out:
            if each.settings and each.settings.sample:
                size = each.settings.sample_size
                classes = len(each.latents.info.class_names)
                images += config.distances.per_class * classes * size.tokens * passes
                first = first or images
        images += first * len(config.distances.measured_at)
    return _Tokens(losses[0], sum(losses[1:]) + images)


def _probed(training: TrainingConfig, file: Path) -> Speed:
    """The speed of the model and batch of a run; those of one kind are probed once."""
    known = read_json(file) if file.is_file() else {}
    values = training.to_dict()
    key = json.dumps([values[name] for name in ("model", "batch", "precision")], sort_keys=True)
    if key not in known:
        run = TrainingRun(
            replace(
                training,
                output=str(file.with_name("probe")),  # never made; the run's own may hold the run
                resume="no",
                logging=replace(training.logging, tracker=NO_TRACKER, utilisation=False),
            ),
            writes=False,
        )
        found = probe(run, budget_of(training.batch), training.batch.accumulation)
        known[key] = {"seconds": found.seconds, "tokens": found.tokens}
        del run
        gc.collect()
        write_json(file, known)
    return Speed(**known[key])

"""Measure a complete run.

What was measured before is read back, without loading a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState

from comfyui_fitv2.checkpoint import LoadedModel, load_checkpoint
from comfyui_fitv2.model import FiT

from ..data import open_latent_set
from ..data.latent_set import LatentSet, data_digest
from ..train.checkpoints.reader import checkpoints, read_metadata, read_summary
from ..train.checkpoints.run_folder import ema_file, find_file, step_of
from ..train.checkpoints.summary import CheckpointSummary
from ..train.config import ConfigError, TrainingConfig
from ..train.flops import TrainingCost
from ..train.held_out_loss import held_out_loss, held_out_times
from ..train.packing import Position, StepTotals
from ..whole_files import read_json, write_json
from .config import Distances, Run, ScalingConfig
from .curves import Curve, Point
from .data import Measured
from .distances import DistanceMeter, Quality
from .samples import write_row
from .trained import cpu_seconds

T = TypeVar("T")

_FILE = "measured.json"
EXAMPLES = "examples.png"
"""File in the folder of a run: images of the first size that is generated, side by side."""
MEASURE = "measure"
"""Folder in that of a study: what distances are measured with."""


def measured_curve(
    run: Run,
    training: TrainingConfig,
    config: ScalingConfig,
    held_out: Sequence[Measured],
    meter: DistanceMeter | None,
) -> Curve:
    """The loss of a complete run at its milestones, and all measures at its end.

    Losses are those of the first moving average in ``training.ema_decays``, on the first set of
    ``held_out`` at milestones and on all of them at the end.
    """
    folder, average = Path(training.output), ema_file(training.ema_decays[0])
    store = _Store(folder / _FILE, _measured_on(config, held_out, meter))
    device = torch.device(str(PartialState().device))
    losses = _Losses(store, config.held_out_times, device)
    crop, lengths = training.batch.crop, open_latent_set(training.data).lengths
    sampled = [each for each in held_out if meter and each.settings and each.settings.sample]
    found = checkpoints(folder)
    model = FiT(read_metadata(found[-1], average).config, device="meta")
    points, loaded = [], _loading(found[-1], average)
    for checkpoint in found:
        loaded, step = _loading(checkpoint, average), step_of(checkpoint)
        loss, quality = losses.of(loaded, held_out[0], step), None
        if meter and sampled and step in (*meter.settings.measured_at, training.steps):
            quality = _quality(store, meter, loaded, sampled[0], step, device)
        flops = _flops(model, read_summary(checkpoint), lengths, crop)
        distance, error = (quality.distance, quality.error) if quality else (None, None)
        points.append(Point(step, flops, loss, distance, error))
    qualities = {
        each.name: _quality(store, meter, loaded, each, training.steps, device)
        for each in sampled
        if meter
    }
    examples = folder / EXAMPLES
    if meter and sampled and not examples.is_file():
        write_row(meter.examples(loaded(), sampled[0]), examples)
    return Curve(
        run.variant,
        run.size,
        run.seed,
        sum(p.numel() for p in model.parameters()),
        points,
        {each.name: losses.of(loaded, each, training.steps) for each in held_out},
        {name: quality.distance for name, quality in qualities.items()},
        {name: quality.error for name, quality in qualities.items()},
        cpu_seconds(training),
    )


def measured_floors(
    config: ScalingConfig, held_out: Sequence[Measured], meter: DistanceMeter | None, folder: Path
) -> dict[str, dict[str, Quality]]:
    """By held-out set and kind of image: what drawings reach; see ``DistanceMeter.floors``."""
    if meter is None:
        return {}
    store = _Store(folder / "floors.json", _measured_on(config, held_out, meter))

    def measure(each: Measured) -> dict[str, dict[str, float]]:
        return {kind: asdict(quality) for kind, quality in meter.floors(each).items()}

    floors: dict[str, dict[str, Quality]] = {}
    for each in held_out:
        if each.settings and each.settings.sample:
            found = store.value(each.name, partial(measure, each))
            floors[each.name] = {kind: Quality(**values) for kind, values in found.items()}
    return floors


def _quality(
    store: _Store,
    meter: DistanceMeter,
    loaded: Callable[[], LoadedModel],
    held_out: Measured,
    step: int,
    device: torch.device,
) -> Quality:
    def measure() -> dict[str, float]:
        loaded().model.to(device)
        return asdict(meter.quality(loaded(), held_out))

    return Quality(**store.value(f"quality: {held_out.name} at {step}", measure))


def _loading(checkpoint: Path, name: str) -> Callable[[], LoadedModel]:
    """Loads the weights file ``name`` of a checkpoint where it is first needed, and keeps it."""
    return cache(partial(load_checkpoint, find_file(checkpoint, name)))


class _Store:
    """What JSON holds, by name in a file, measured once; that of other settings is forgotten."""

    def __init__(self, file: Path, measured_on: dict[str, Any]) -> None:
        stored: dict[str, Any] = read_json(file) if file.is_file() else {}
        self._file, self._measured_on = file, measured_on
        same = stored.get("measured_on") == measured_on
        self._values: dict[str, Any] = stored["values"] if same else {}

    def value(self, name: str, measure: Callable[[], T]) -> T:
        """The value called ``name``, by calling ``measure`` where it is not known."""
        if name not in self._values:
            self._values[name] = measure()
            write_json(self._file, {"measured_on": self._measured_on, "values": self._values})
        return self._values[name]


class _Losses:
    def __init__(self, store: _Store, times: int, device: torch.device) -> None:
        self._store, self._times, self._device = store, held_out_times(times), device

    def of(self, loaded: Callable[[], LoadedModel], held_out: Measured, step: int) -> float:
        def measure() -> float:
            return held_out_loss(
                loaded().model.to(self._device),
                held_out.latents,
                _class_map(held_out.latents, loaded().class_names or ()),
                self._times,
                self._device,
                held_out.indices,
            )

        return self._store.value(f"loss: {held_out.name} at {step}", measure)


def _measured_on(
    config: ScalingConfig, held_out: Sequence[Measured], meter: DistanceMeter | None
) -> dict[str, Any]:
    """What decides the figures, besides the checkpoints."""
    return {
        "sets": [
            {"name": each.name, "count": len(each.indices), **data_digest(each.latents)}
            | ({"sample": each.settings.sample} if each.settings else {})
            for each in held_out
        ],
        "times": config.held_out_times,
        "distances": {**_deciding(meter.settings), "by": meter.name} if meter else None,
    }


def _deciding(distances: Distances) -> dict[str, Any]:
    values = asdict(distances)
    del values["measured_at"]  # decides which distances there are, not what they are
    return values


def _class_map(held_out: LatentSet, class_names: Sequence[str]) -> list[int]:
    """The model's class id for each class of the set. Raises ``ConfigError``."""
    if unknown := [name for name in held_out.info.class_names if name not in class_names]:
        raise ConfigError(f"--held-out has a class that --data does not: {unknown[0]!r}.")
    return [list(class_names).index(name) for name in held_out.info.class_names]


def _flops(model: FiT, summary: CheckpointSummary, lengths: np.ndarray, crop: float) -> int:
    """The FLOPs of the training up to a checkpoint.

    The number of pairs of tokens is estimated from the ``lengths`` of the set's images, which are
    used cropped with the probability ``crop``.
    """
    weights = np.array([1 - crop, crop])
    mean, mean_square = lengths @ weights, lengths**2 @ weights
    pairs = round(summary.tokens * mean_square.mean() / mean.mean())
    cost = TrainingCost.of(model.requires_grad_(True), model.config.hidden_size, model.config.depth)
    return cost.flops(StepTotals(summary.images, summary.tokens, summary.tokens, pairs, Position()))

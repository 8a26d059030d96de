"""Train a series of models of rising size, and plot their loss over compute and over steps.

python -m training.scaling --output runs/scaling                an hour on two CPU cores, no data
python -m training.scaling --output runs/quick --config quick   minutes
python -m training.scaling --output ... --config my.yaml --data latents --held-out other-latents \\
    --launcher "accelerate launch"

The study is about two claims of the FiTv2 paper (arXiv 2410.13925): that larger models use compute
better, and that FiTv2 converges about twice as fast as FiT. The paper compares FIDs of XL models
after 400 K steps; the study compares the loss of small models on held-out images
(``held_out_loss``), with the same noise and times for all. Three families have equal width and
about equal FLOPs:

- FiTv2.
- FiT: version 1 as published, which learns the noise of a DDPM at uniform timesteps. Its loss is
  that of the velocity that its noise means. It was not trained with that weighting of times, so
  part of the difference is due to the objective.
- FiT architecture: the layers of version 1 (an own AdaLN modulation per block, no QK-norm, wide
  SwiGLU) with FiTv2's rectified flow. The rest of the difference is due to the architecture.

Losses are those of the first moving average in ``training.ema_decays``. The same command resumes,
and trains and measures nothing twice.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from accelerate import PartialState

from comfyui_fitv2.checkpoint import load_checkpoint
from comfyui_fitv2.model import FiT

from ..command_line import by_path, parse_options, run_command
from ..data import open_latent_set
from ..data.latent_set import INFO_FILE, LatentSet, data_digest
from ..failures import explained
from ..folder_lock import folder_lock
from ..prepare import PrepareOptions, prepare
from ..processes import PARENT_VARIABLE, require_one_process
from ..train.checkpoints.reader import checkpoints, read_summary
from ..train.checkpoints.run_folder import ema_file, step_of
from ..train.checkpoints.summary import CheckpointSummary
from ..train.config import ConfigError, TrainingConfig
from ..train.flops import TrainingCost
from ..train.held_out_loss import held_out_loss, held_out_times
from ..train.packing import Position, StepTotals
from ..whole_files import write_json
from .config import ShapesConfig, read_scaling_config
from .report import Curve, Point, markdown, write_report
from .shapes import write_shapes

_TRAINING_SEED, _HELD_OUT_SEED = 1, 2
_LOSSES_FILE = "held_out.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingOptions:
    """Raises ``ConfigError`` where only one of the two latent sets is given."""

    output: Path
    """Folder of the study. The same command resumes where it stopped."""
    config: str = "default"
    """YAML file of the study, or default (an hour on two CPU cores) or quick (minutes)."""
    quick: bool = False
    """Short for --config quick."""
    data: Path | None = None
    """Latent set to train on; by default images of shapes are made and encoded."""
    held_out: Path | None = None
    """Latent set of other images of the same classes, to measure on."""
    launcher: str = ""
    """What starts training, such as "accelerate launch"; by default this Python."""

    def __post_init__(self) -> None:
        if (self.data is None) != (self.held_out is None):
            raise ConfigError(
                "--data and --held-out go together: the loss on images that were trained on says "
                "nothing."
            )


def scaling(options: ScalingOptions) -> list[Curve]:
    """Train, measure and report.

    Raises ``ValueError`` or ``OSError`` on a user's error, ``KeyboardInterrupt`` when a run was
    stopped.
    """
    require_one_process(
        "scaling", 'Start one, with --launcher "accelerate launch" to train on all.'
    )
    memory = "Close what else uses it, or name smaller models in --config."
    resumes = "The same command resumes."
    with explained(memory, last_state=lambda: resumes), folder_lock(options.output, "works here"):
        return _study(options)


def _study(options: ScalingOptions) -> list[Curve]:
    output = options.output
    config = read_scaling_config("quick" if options.quick else options.config)
    data = options.data or output / "data" / "training"
    held_out = options.held_out or output / "data" / "held_out"
    runs = []
    for family, size in config.ladder:
        folder = output / "runs" / f"{family} {size}".replace(" ", "-")
        runs.append((family, size, config.run(family, size, data, folder)))
    if options.data is None:
        _make_data(config.shapes, data, _TRAINING_SEED, config.shapes.training)
        _make_data(config.shapes, held_out, _HELD_OUT_SEED, config.shapes.held_out)
    measured_on = open_latent_set(held_out)
    curves = []
    for family, size, run in runs:
        _train(run, options.launcher)
        curves.append(_curve(family, size, run, measured_on, config.held_out_times))
        write_report(curves, output)
    return curves


def _make_data(shapes: ShapesConfig, folder: Path, seed: int, count: int) -> None:
    """Make a latent set of shapes, unless it is there."""
    if not (folder / INFO_FILE).is_file():
        images = folder.with_name(f"{folder.name}_pictures")  # studies of earlier versions have it
        write_shapes(images, count, shapes.image_size, seed)
        prepare(
            PrepareOptions(
                images=images, output=folder, image_size=shapes.image_size, flip=False, workers=0
            )
        )


def _train(run: TrainingConfig, launcher: str) -> None:
    """Train a run to its end, in a process of its own, which frees all memory when it exits."""
    folder = Path(run.output)
    if _is_complete(run):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = folder.with_name(f"{folder.name}.yaml")
    config.write_text(yaml.safe_dump(run.to_dict(), sort_keys=False), encoding="utf-8")
    print(f"training {folder.name}", file=sys.stderr)
    command = [*shlex.split(launcher), "-m", "training.train"] if launcher else by_path("train")
    process = subprocess.Popen(
        [*command, "--config", str(config)],
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
    )
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # it received the signal too, and saves
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if status:
        raise ValueError(
            f"training of {folder.name} ended with status {status}; its own lines above say why."
        )
    if not _is_complete(run):
        raise KeyboardInterrupt  # after SIGTERM the run has saved and exited with 0


def _is_complete(run: TrainingConfig) -> bool:
    return any(step_of(checkpoint) == run.steps for checkpoint in checkpoints(Path(run.output)))


def _curve(family: str, size: str, run: TrainingConfig, held_out: LatentSet, times: int) -> Curve:
    """The losses of a complete run at its milestones; those measured before are read back."""
    folder = Path(run.output)
    file, measured_on = folder / _LOSSES_FILE, {**data_digest(held_out), "times": times}
    stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    losses: dict[str, float] = stored["losses"] if stored.get("measured_on") == measured_on else {}
    lengths = open_latent_set(run.data).lengths[:, 0]
    average, device = ema_file(run.ema_decays[0]), torch.device(str(PartialState().device))
    points, parameters = [], 0
    for checkpoint in checkpoints(folder):
        step, loaded = str(step_of(checkpoint)), load_checkpoint(checkpoint / average)
        if step not in losses:
            class_map = _class_map(held_out, loaded.class_names or ())
            losses[step] = held_out_loss(
                loaded.model.to(device), held_out, class_map, held_out_times(times), device
            )
            write_json(file, {"measured_on": measured_on, "losses": losses})
        parameters = sum(p.numel() for p in loaded.model.parameters())
        flops = _flops(loaded.model, read_summary(checkpoint), lengths)
        points.append(Point(int(step), flops, losses[step]))
    return Curve(family, size, parameters, points)


def _class_map(held_out: LatentSet, class_names: Sequence[str]) -> list[int]:
    """The model's class id for each class of the set. Raises ``ConfigError``."""
    if unknown := [name for name in held_out.info.class_names if name not in class_names]:
        raise ConfigError(f"--held-out has a class that --data does not: {unknown[0]!r}.")
    return [list(class_names).index(name) for name in held_out.info.class_names]


def _flops(model: FiT, summary: CheckpointSummary, lengths: np.ndarray) -> int:
    """The FLOPs of the training up to a checkpoint.

    The number of pairs of tokens is estimated from the ``lengths`` of the set's images.
    """
    pairs = round(summary.tokens * (lengths**2).mean() / lengths.mean())
    cost = TrainingCost.of(model.requires_grad_(True), model.config.hidden_size, model.config.depth)
    return cost.flops(StepTotals(summary.images, summary.tokens, summary.tokens, pairs, Position()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.scaling``; returns the exit status."""

    def command() -> None:
        options = parse_options(
            ScalingOptions,
            argv,
            prog="python -m training.scaling",
            description="Train a series of models, and plot their loss over compute and steps.",
        )
        print(markdown(scaling(options)))

    return run_command(command, "The same command resumes from here.")

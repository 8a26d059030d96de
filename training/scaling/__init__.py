"""Train a ladder of models, and plot their loss against compute and steps.

python -m training.scaling --output runs/scaling                           about an hour on two CPU cores, needs no data
python -m training.scaling --output runs/scaling-quick --config quick      minutes
python -m training.scaling --output ... --config my.yaml --data latents --held-out latents-of-others --launcher "accelerate launch"

Two claims of the FiTv2 paper (arXiv 2410.13925) are looked at: larger models use compute better, and FiTv2 converges about twice as fast
as FiT. The paper compares FIDs of XL models after 400 K steps; here it is the loss of small models on held-out pictures
(``training.held_out``), the same noise and times for all. Three families of equal width and about equal FLOPs:

- FiTv2.
- FiT: version 1 as published, which learns the noise of a DDPM at even timesteps. Its loss is measured as the velocity that its noise
  stands for. It was not trained for that weighting of times, so a part of its distance is one of objectives.
- FiT architecture: version 1's layers (whole AdaLN modulations, no QK-norm, wide SwiGLU) with FiTv2's rectified flow. What is left of the
  distance is the architecture's.

Losses are of the first moving average in ``training.ema_decays``. The same command goes on where it ended, and trains or measures
nothing twice.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import PartialState

from comfyui_fitv2.checkpoint import load_checkpoint
from comfyui_fitv2.model import FiT

from ..command_line import run_command
from ..data.latent_set import INFO_FILE, LatentSet
from ..prepare import PrepareOptions, prepare
from ..train.checkpoints.reader import checkpoints, ema_file, read_summary, step_of
from ..train.checkpoints.run_folder import fingerprint
from ..train.config import ConfigError, TrainingConfig
from ..train.flops import TrainingCost
from ..train.packing import Position, StepTotals
from ..whole_files import write_json
from .config import Pictures, ScalingConfig, read_scaling_config
from .held_out_loss import held_out_loss
from .report import Curve, Point, markdown, write_report
from .shapes import draw_pictures

_TRAINING_SEED, _HELD_OUT_SEED = 1, 2
_LOSSES_FILE = "held_out.json"


@dataclass(frozen=True, slots=True)
class ScalingOptions:
    config: ScalingConfig
    output: Path
    data: Path | None = None
    """Latent set to train on; None draws one."""
    held_out: Path | None = None
    """Latent set to measure on; given with ``data``."""
    launcher: str = ""
    """What starts training, such as "accelerate launch"; empty is this Python."""

    def __post_init__(self) -> None:
        if (self.data is None) != (self.held_out is None):
            raise ConfigError(
                "--data and --held-out go together: what is trained on cannot be measured on."
            )


def scaling(options: ScalingOptions) -> list[Curve]:
    """Train, measure and report. Raises ``ValueError`` or ``OSError`` on what the person can put right, ``KeyboardInterrupt`` when a run was stopped."""
    config, output = options.config, options.output
    data, held_out = (
        options.data or output / "data" / "training",
        options.held_out or output / "data" / "held_out",
    )
    runs = [
        (
            family,
            size,
            config.run(family, size, data, output / "runs" / f"{family} {size}".replace(" ", "-")),
        )
        for family, size in config.ladder
    ]
    if options.data is None:
        _draw_data(output / "data", config.pictures)
    measured_on = LatentSet.open(held_out)
    curves = []
    for family, size, run in runs:
        _train(run, options.launcher)
        curves.append(_curve(family, size, run, measured_on, config.held_out_times))
        write_report(curves, output)
    return curves


def _draw_data(folder: Path, pictures: Pictures) -> None:
    for name, count, seed in (
        ("training", pictures.training, _TRAINING_SEED),
        ("held_out", pictures.held_out, _HELD_OUT_SEED),
    ):
        if not (folder / name / INFO_FILE).is_file():
            draw_pictures(folder / f"{name}_pictures", count, pictures.resolution, seed)
            prepare(
                PrepareOptions(
                    folder / f"{name}_pictures",
                    folder / name,
                    pictures.resolution,
                    flip=False,
                    workers=0,
                )
            )


def _train(run: TrainingConfig, launcher: str) -> None:
    """The run to its end, in a process of its own, whose memory goes with it."""
    folder = Path(run.output)
    if any(step_of(checkpoint) == run.steps for checkpoint in checkpoints(folder)):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    config = folder.with_name(f"{folder.name}.yaml")
    config.write_text(yaml.safe_dump(run.to_dict(), sort_keys=False), encoding="utf-8")
    print(f"training {folder.name}", file=sys.stderr)
    command = [
        *(shlex.split(launcher) or [sys.executable]),
        "-m",
        "training.train",
        "--config",
        str(config),
    ]
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # it was sent the signal too, and saves
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if status:
        raise ValueError(
            f"training of {folder.name} ended with status {status}; its own lines above say why."
        )
    if not any(step_of(checkpoint) == run.steps for checkpoint in checkpoints(folder)):
        raise KeyboardInterrupt  # SIGTERM: the run has saved and ended in order


def _curve(family: str, size: str, run: TrainingConfig, held_out: LatentSet, times: int) -> Curve:
    """Losses of a finished run at its milestones; those measured before on the same pictures are read back."""
    folder = Path(run.output)
    kept_in, measured_on = folder / _LOSSES_FILE, {**fingerprint(held_out), "times": times}
    kept: dict[str, Any] = (
        json.loads(kept_in.read_text(encoding="utf-8")) if kept_in.is_file() else {}
    )
    losses: dict[str, float] = kept["losses"] if kept.get("measured_on") == measured_on else {}
    trained_on = LatentSet.open(run.data)
    lengths = trained_on.grids[:, 0].prod(axis=-1)
    device = torch.device(str(PartialState().device))
    points, parameters = [], 0
    for checkpoint in checkpoints(folder):
        step, summary = str(step_of(checkpoint)), read_summary(checkpoint)
        model = load_checkpoint(checkpoint / ema_file(run.ema_decays[0])).model
        if step not in losses:
            losses[step] = held_out_loss(
                model.to(device), held_out, _labels(held_out, summary["class_names"]), times, device
            )
            write_json(kept_in, {"measured_on": measured_on, "losses": losses})
        parameters = sum(p.numel() for p in model.parameters())
        points.append(Point(int(step), _flops(model, summary, lengths), losses[step]))
    return Curve(family, size, parameters, points)


def _labels(held_out: LatentSet, class_names: Sequence[str]) -> list[int]:
    """The model's id of each class of the set."""
    if unknown := [name for name in held_out.info.class_names if name not in class_names]:
        raise ConfigError(f"--held-out has a class that --data does not: {unknown[0]!r}.")
    return [list(class_names).index(name) for name in held_out.info.class_names]


def _flops(model: FiT, summary: dict[str, Any], lengths: Any) -> int:
    """All that training took up to a checkpoint, with as many pairs of tokens as images of the set's mean have."""
    pairs = round(summary["tokens"] * (lengths**2).mean() / lengths.mean())
    cost = TrainingCost.of(model.requires_grad_(True), model.config.hidden_size, model.config.depth)
    return cost.flops(
        StepTotals(summary["images"], summary["tokens"], summary["tokens"], pairs, Position())
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.scaling",
        description="Train a ladder of models, and plot loss against compute and steps.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder of the study; the same command goes on where it ended",
    )
    parser.add_argument(
        "--config",
        default="default",
        help="a YAML file, or default (an hour on two cores) or quick (minutes)",
    )
    parser.add_argument(
        "--quick",
        dest="config",
        action="store_const",
        const="quick",
        help="short for --config quick",
    )
    parser.add_argument(
        "--data", type=Path, help="latent set to train on (default: pictures drawn for it)"
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        help="latent set of other pictures of the same classes, to measure on",
    )
    parser.add_argument(
        "--launcher",
        default="",
        help='what starts training, such as "accelerate launch --num_processes 8" (default: this Python)',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = vars(_parser().parse_args(argv))

    def command() -> None:
        study = ScalingOptions(**{**options, "config": read_scaling_config(options["config"])})
        print(markdown(scaling(study)))

    return run_command(command, "The same command goes on from here.")

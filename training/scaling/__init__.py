"""Train small models in many ways, with several seeds each, and publish what the paper's claims
come to: a page with plots, tables, error bars, seeds and cost.

python -m training.scaling --output runs/laptop --page docs/scaling     hours on one CPU core
python -m training.scaling --output runs/laptop --plan                  how many hours, and of what
python -m training.scaling --output runs/quick --config quick           a minute
python -m training.scaling --output ... --config my.yaml --data latents --held-out other-latents \\
    --launcher "accelerate launch"

The FiTv2 paper (arXiv 2410.13925) claims that training on any shape generalises over shapes, that
FiTv2 converges about twice as fast as FiT, and that larger models use compute better; its Table II
adds one change at a time. The paper compares FIDs of XL models after 400 K steps; the study the
loss of small models on held-out images (``held_out_loss``), with the same noise and times for all,
and how far generated images are from held-out drawings. ``config.Variant`` is a way of training,
and ``config.Comparison`` a pair of them.

The same command resumes, and trains and measures nothing twice. The page is written anew after
every training, and at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from ..command_line import own_line, parse_options, run_command
from ..failures import explained
from ..folder_lock import folder_lock
from ..processes import require_one_process
from ..train.config import ConfigError, TrainingConfig
from .config import Run, ScalingConfig
from .config_file import read_scaling_config
from .curves import Curve
from .data import Measured, given_set, make_held_out_sets, make_training_set, training_folder
from .distances import DistanceMeter
from .measure import EXAMPLES, MEASURE, measured_curve, measured_floors
from .page import SAMPLES, About, markdown, write_page
from .plan import make_plan
from .samples import write_sheet
from .trained import FailedRunError, is_complete, train


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingOptions:
    """Raises ``ConfigError`` where only one of the two latent sets is given."""

    output: Path
    """Folder of the study. The same command resumes where it stopped."""
    page: Path | None = None
    """Folder of the page and its plots, such as docs/scaling; by default `page` in --output."""
    config: str = "laptop"
    """YAML file of the study, or laptop (hours on one CPU core) or quick (a minute)."""
    quick: bool = False
    """Short for --config quick."""
    plan: bool = False
    """Only make the data and print what the study would take."""
    data: Path | None = None
    """Latent set to train on; by default drawings of textured shapes are made and encoded."""
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


def scaling(options: ScalingOptions, command: str = "python -m training.scaling") -> str:
    """Train, measure and report; returns the text of the page, or of the plan.

    ``command`` is the command line that the page names. Raises ``ValueError`` or ``OSError`` on a
    user's error, and after the last run where some failed; ``KeyboardInterrupt`` when a run was
    stopped.
    """
    require_one_process(
        "scaling", 'Start one, with --launcher "accelerate launch" to train on all.'
    )
    memory = "Close what else uses it, or name smaller models in --config."
    resumes = "The same command resumes."
    with explained(memory, last_state=lambda: resumes):
        config = read_scaling_config("quick" if options.quick else options.config)
        data = options.data or training_folder(options.output)
        trainings = {
            run: config.training_of(run, data, options.output / "runs" / run.folder_name)
            for run in config.runs
        }
        with folder_lock(options.output, "works here"):
            held_out = _data(options, config)
            plan = make_plan(config, trainings, held_out, options.output).text()
            if options.plan:
                return plan
            print(plan, file=sys.stderr)
            meter = _meter(options, config, trainings)
            curves: dict[Run, Curve] = {}
            about = About(
                command,
                torch.get_num_threads(),
                measured_floors(config, held_out, meter, options.output / MEASURE),
                len(trainings),
                options.data.name if options.data else "",
            )
            failed: list[str] = []
            is_new = {run: not is_complete(training) for run, training in trainings.items()}
            order = sorted(trainings, key=is_new.__getitem__)
            for run in order:  # so that each page shows all that were trained
                training = trainings[run]
                try:
                    train(training, options.launcher)
                except FailedRunError as error:  # such as a model that diverges: others may not
                    print(f"error: {error} The study goes on.", file=sys.stderr)
                    failed.append(run.name)
                    continue
                curves[run] = measured_curve(run, training, config, held_out, meter)
                if is_new[run] and run != order[-1]:
                    _write(options, config, trainings, curves, about)
            if curves:
                _write(options, config, trainings, curves, about)
            if failed:
                raise ValueError(f"{len(failed)} runs failed: {', '.join(failed)}.")
            return markdown(_in_order(trainings, curves), config, about)


def _write(
    options: ScalingOptions,
    config: ScalingConfig,
    trainings: Mapping[Run, TrainingConfig],
    curves: Mapping[Run, Curve],
    about: About,
) -> None:
    """Write the page with the curves that there are."""
    page = options.page or options.output / "page"
    write_page(_in_order(trainings, curves), config, about, page)
    write_sheet(_examples(trainings), page / SAMPLES)


def _in_order(trainings: Mapping[Run, TrainingConfig], curves: Mapping[Run, Curve]) -> list[Curve]:
    """The curves in the order of the study."""
    return [curves[run] for run in trainings if run in curves]


def _data(options: ScalingOptions, config: ScalingConfig) -> list[Measured]:
    """Make the data where none are given; returns what is measured on."""
    if options.held_out is not None:
        return [given_set(options.held_out)]
    make_training_set(config, options.output)
    return make_held_out_sets(config, options.output)


def _meter(
    options: ScalingOptions, config: ScalingConfig, trainings: Mapping[Run, TrainingConfig]
) -> DistanceMeter | None:
    if config.distances is None or options.data is not None:
        return None
    device = torch.device(str(PartialState().device))
    precision = next(iter(trainings.values())).precision
    return DistanceMeter(config.distances, options.output / MEASURE, precision, device)


def _examples(trainings: Mapping[Run, TrainingConfig]) -> list[tuple[str, Path]]:
    """The name of each model and the file with images of its first seed."""
    files: dict[str, Path] = {}
    for run, training in trainings.items():
        files.setdefault(f"{run.variant} {run.size}", Path(training.output) / EXAMPLES)
    return list(files.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.scaling``; returns the exit status."""

    def command() -> None:
        options = parse_options(
            ScalingOptions,
            argv,
            prog="python -m training.scaling",
            description="Train small models in many ways, and publish what differs.",
        )
        print(scaling(options, own_line("python -m training.scaling", argv)))

    return run_command(command, "The same command resumes from here.")

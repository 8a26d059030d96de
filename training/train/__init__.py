"""Train a FiT on a latent set.

    accelerate launch -m training.train --config tiny --data latents --output runs/mine --steps 2000

One process or many, as accelerate was configured: DDP or FSDP2 (``training/configs/accelerate``).
The folder of the run gets config.yaml, checkpoints, sample sheets, logs, and a page to watch.
Ctrl-C and SIGTERM finish the step, save, and exit with 130 and 0 (a launcher of several processes
exits with its own status). ``--resume latest`` resumes; on the CPU bit for bit. ``--plan`` measures
some steps, prints what the run would take, and writes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from accelerate import PartialState

from ..command_line import run_command
from ..processes import EXIT_STATUS
from .config import TrainingConfig
from .config_parser import parse_config
from .plan import NO_OUTPUT, make_plan, plan_options
from .run import TrainingRun


def train(config: TrainingConfig) -> int:
    """Train to the end, or until stopped; gives the exit status.

    Raises kinds of ``ValueError`` where the user must change something.
    """
    stopped = TrainingRun(config).train()
    return EXIT_STATUS[stopped] if stopped else 0


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(
        lambda: _command(sys.argv[1:] if argv is None else argv),
        "Nothing was saved since the last checkpoint.",
    )


def _command(argv: Sequence[str]) -> int:
    options, argv = plan_options(argv)
    if options is None:
        return train(parse_config(argv))
    text = make_plan(parse_config(argv, defaults=["--output", NO_OUTPUT]), options)
    if PartialState().is_main_process:
        print(text)
    return 0

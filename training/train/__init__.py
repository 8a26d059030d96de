"""Train a FiT on a latent set.

    accelerate launch -m training.train --config tiny --data latents --output runs/mine --steps 2000

One process or many, by accelerate's own configuration: DDP, FSDP2, DeepSpeed (``training/configs/accelerate``). The run's folder gets
config.yaml, checkpoints, sample sheets and logs. Ctrl-C and SIGTERM finish the step, save, and exit with 130 and 0 (a launcher of several
processes exits with its own status); ``--resume latest`` goes on, on the CPU bit for bit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..command_line import run_command
from ..processes import EXIT_STATUS
from .config import TrainingConfig
from .config_parser import parse_config
from .run import Run


def train(config: TrainingConfig) -> int:
    """Train to the end, or until stopped; the exit status. Raises ``ValueError`` of several kinds on what a person must change."""
    stopped = Run(config).train()
    return EXIT_STATUS[stopped] if stopped else 0


def main(argv: Sequence[str] | None = None) -> int:
    statuses: list[int] = []

    def command() -> None:
        statuses.append(train(parse_config(sys.argv[1:] if argv is None else argv)))

    return run_command(command, "Nothing was saved since the last checkpoint.") or statuses[0]

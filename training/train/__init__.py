"""Train a FiT on a latent set.

    python -m training.train --config tiny --data latents --output runs/mine --steps 2000
    torchrun --nproc_per_node 8 -m training.train ...        on the GPUs of this machine

Many processes train with DDP, or with FSDP2 under ``accelerate launch``
(``training/configs/accelerate``). The folder of the run gets config.yaml, checkpoints, sample
sheets, logs, and a page to watch. Ctrl-C, SIGTERM and a closed terminal finish the step, save, and
exit with 130, 0 and 0 (a launcher exits with its own status). ``--resume latest`` resumes; on the
CPU bit for bit. ``--plan`` measures some steps, prints what the run would take, and writes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from accelerate import PartialState

from ..command_line import run_command
from ..failures import explained
from ..folder_lock import folder_lock
from ..processes import EXIT_STATUS, on_main
from .accelerator import make_accelerator
from .checkpoints.reader import finish_renames, last_good
from .config import TrainingConfig
from .config_parser import parse_config
from .guard import TrainingError
from .plan import NO_OUTPUT, make_plan, plan_options
from .run import TrainingRun

_MEMORY = (
    "Lower batch.token_budget (for padded batches, batch.images), or add "
    "--activation-checkpointing."
)
_WORKERS = "Lower batch.workers or batch.token_budget."


def train(config: TrainingConfig) -> int:
    """Train to the end, or until stopped; gives the exit status.

    Raises kinds of ``ValueError`` and ``OSError`` where the user must change something.
    """
    folder = Path(config.output)
    accelerator = make_accelerator(config)
    with ExitStack() as stack:
        stack.enter_context(explained(_MEMORY, _WORKERS, lambda: last_good(folder)))

        def open_folder() -> None:
            stack.enter_context(folder_lock(folder, "trains here"))
            finish_renames(folder)

        on_main(PartialState(), open_folder)
        try:
            stopped = TrainingRun(config, accelerator).train()
        except TrainingError as error:
            raise TrainingError(f"{error} {last_good(folder)}") from None
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
    with explained(_MEMORY, _WORKERS):
        text = make_plan(parse_config(argv, defaults=["--output", NO_OUTPUT]), options)
    if PartialState().is_main_process:
        print(text)
    return 0

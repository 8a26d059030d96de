"""Training runs one after the other in the same processes: ``several_runs.py COMMAND_LINES``.

The argument is a JSON file: a list of command lines of ``training.train``, each a list of words.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate import Accelerator

from training.command_line import run_command
from training.train import train
from training.train.config_parser import parse_config


def train_all() -> int:
    lines = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return max(train(parse_config(line)) for line in lines)


if __name__ == "__main__":
    Accelerator.end_training = lambda self: None  # it disconnects the processes
    raise SystemExit(run_command(train_all))

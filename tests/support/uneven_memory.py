"""The plan of a run whose last process has less memory: ``uneven_memory.py [options of train]``."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from unittest.mock import patch

import torch

from training.train import main
from training.train.probe import memory_meter

IS_LAST = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
GIB = 2**30

if __name__ == "__main__":
    of_all = (2 if IS_LAST else 20) * GIB  # which the processes of a CPU share
    meter = replace(
        memory_meter(torch.device("cpu")), peak=lambda: 4 * GIB // 5, available=lambda: of_all
    )
    with (
        patch("training.train.probe.memory_meter", lambda device: meter),
        patch("training.train.budgets.memory_meter", lambda device: meter),
        patch("training.train.probe._SECONDS", 0.0),
    ):
        raise SystemExit(main(["--plan", *sys.argv[1:]]))

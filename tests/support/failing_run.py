"""A training run in which something fails at step 5: ``failing_run.py FAILURE [options of train]``.

In a run of several processes it fails in the last one, except for what only the main one does. With
"sharded-" before the failure, weights are sharded, and each process saves its own.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import active_children
from typing import Any

import torch
from support.sharded_run import shard

from training.train import main, run
from training.train.checkpoints.storage import PartsWriter

STEP = 5
IS_LAST = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
IS_MAIN = os.environ.get("RANK", "0") == "0"


def no_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")


def no_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def no_worker() -> None:
    os.kill(active_children()[0].pid or 0, signal.SIGKILL)
    time.sleep(10)  # ends at the worker's death; else the step may be saved before that is seen


def no_disk() -> None:
    """Files can no longer grow beyond 20 kB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def a_bug() -> None:
    raise ZeroDivisionError("a bug")


def at_step(number: int, function: Callable[..., Any], fail: Callable[[], None]) -> Any:
    """``function``, which fails when it is called for the ``number``-th time."""
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            print(f"failing at {time.time()}", flush=True)
            fail()
        return function(*arguments, **options)

    return counted


if __name__ == "__main__":
    failure = sys.argv[1].removeprefix("sharded-")
    is_sharded = failure != sys.argv[1]
    if is_sharded:
        shard()
    if failure == "sheet" and IS_MAIN:
        run.TrainingRun.render_sheet = at_step(STEP, run.TrainingRun.render_sheet, a_bug)
    elif failure == "disk" and (IS_LAST if is_sharded else IS_MAIN):
        run.TrainingRun.save = at_step(STEP, run.TrainingRun.save, no_disk)
    elif failure == "writing" and IS_LAST:
        PartsWriter.write_data = at_step(STEP, PartsWriter.write_data, no_process)
    elif failure in ("memory", "process", "worker") and IS_LAST:
        fail = {"memory": no_memory, "process": no_process, "worker": no_worker}[failure]
        run.training_step = at_step(STEP, run.training_step, fail)
    raise SystemExit(main(sys.argv[2:]))

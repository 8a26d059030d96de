"""Train on changing numbers of processes, with kills between: every step must be that of one.

python tests/elastic.py                           2, 4, 1, 2 and 4 processes, some minutes
python tests/elastic.py --processes 2 1 --seed 1

Two and more processes shard the weights (FSDP2, gloo), one has them whole. All but the last are
killed at a random moment, most often while a checkpoint is written. At every step the loss,
weights, moving averages and optimizer state must be those of one undisturbed process to 1e-5.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from math import lcm
from pathlib import Path

# ruff: noqa: E402
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # as pytest.ini says for tests

from support.micro_batches import make_examples
from support.training_runs import (
    ROOT,
    arguments,
    farthest,
    finish,
    kill,
    start_training,
    torchrun,
    weights_at,
)

from training.train.checkpoints.reader import checkpoints, latest
from training.train.checkpoints.run_folder import step_of
from training.train.history import HISTORY

TOLERANCE = 1e-5
FILES = ("model", "ema-0.99", "ema-0.9", "state")
STEPS_PER_TURN = 3
"""Steps that are saved in a turn before it is killed; more follow."""


def trains_as_one(
    data: Path,
    folder: Path,
    turns: Sequence[int],
    chance: random.Random,
    say: Callable[[str], None] = print,
) -> None:
    """Raise ``AssertionError`` at the first step where these numbers of processes differ."""
    packs = lcm(*turns)
    run, alone = folder / "elastic", folder / "alone"
    for number, processes in enumerate(turns, start=1):
        begin = step_of(latest(run)) if checkpoints(run) else 0
        end = begin + STEPS_PER_TURN if number == len(turns) else 1_000_000
        process = start(data, run, processes, packs, end)
        if number == len(turns):
            output = finish(process)
        else:
            wait_for_step(process, run, begin + STEPS_PER_TURN)
            time.sleep(chance.random() / 2)
            kill(process)
            output = ""
        assert not begin or number < len(turns) or f"resumes at step {begin}" in output, output
        last = step_of(latest(run))
        say(f"{processes} process{'es' * (processes > 1)}: step {begin} to {last}")
    last = step_of(latest(run))
    finish(start(data, alone, 1, packs, last))
    here, there = losses(run), losses(alone)
    assert sorted(here) == sorted(there) == list(range(1, last + 1)), (here, there)
    for step in range(1, last + 1):
        differences = [abs(here[step] - there[step])]
        for name in FILES:
            pair = [weights_at(checkpoint(each, step), name) for each in (run, alone)]
            differences.append(farthest(*pair))
        assert max(differences) < TOLERANCE, f"step {step}: loss and files differ by {differences}"
    say(f"{last} steps are those of one process")


def start(data: Path, run: Path, processes: int, packs: int, steps: int) -> subprocess.Popen[str]:
    options = [
        f"--steps={steps}",
        f"--batch.accumulation={packs // processes}",
        "--checkpoints.every=1",
        "--checkpoints.keep=1000",
        "--logging.every=1",
        "--resume=latest",
    ]
    command = arguments(data, run, *options)
    if processes == 1:
        return start_training(command)
    script = [str(ROOT / "tests" / "support" / "sharded_run.py")]
    return start_training(command, *torchrun(processes), script=script)


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    while not checkpoints(run) or step_of(latest(run)) < step:
        if process.poll() is not None:
            raise AssertionError(f"it ended before step {step}: {process.communicate()[0]}")
        time.sleep(0.01)


def losses(run: Path) -> dict[int, float]:
    """The loss of every step."""
    lines = map(json.loads, (run / HISTORY).read_text(encoding="utf-8").splitlines())
    return {line["step"]: line["loss"] for line in lines}


def checkpoint(run: Path, step: int) -> Path:
    return next(path for path in checkpoints(run) if step_of(path) == step)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python tests/elastic.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4, 1, 2, 4])
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        data = make_examples(Path(name) / "data")
        trains_as_one(data, Path(name), options.processes, random.Random(options.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

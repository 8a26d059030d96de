"""Train one run of a study to its end, in a process of its own, and count its CPU time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from ..command_line import by_path, typed
from ..processes import PARENT_VARIABLE
from ..train.checkpoints.reader import checkpoints
from ..train.checkpoints.run_folder import step_of
from ..train.config import ConfigError, TrainingConfig, flat
from ..whole_files import differences, read_json, write_json, write_text

_COST_FILE = "cost.json"


class FailedRunError(ValueError):
    """A run that ended before its last step; its own lines on the console say why."""


def train(run: TrainingConfig, launcher: str) -> None:
    """Train ``run`` unless it is complete; the process frees all memory when it exits.

    Raises ``FailedRunError``, ``ConfigError`` where it began with another configuration, and
    ``KeyboardInterrupt`` where it was stopped.
    """
    folder = Path(run.output)
    config = folder.with_name(f"{folder.name}.yaml")
    if config.is_file() and last_step(run):
        _require_same(yaml.safe_load(config.read_text(encoding="utf-8")), run)
    if is_complete(run):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_text(config, yaml.safe_dump(run.to_dict(), sort_keys=False))
    print(f"training {folder.name}", file=sys.stderr)
    before = _children_cpu_seconds()
    try:
        status = _trained(config, launcher)
    finally:
        if folder.is_dir():
            spent = cpu_seconds(run) + _children_cpu_seconds() - before
            write_json(folder / _COST_FILE, {"cpu_seconds": round(spent, 1)})
    if status:
        raise FailedRunError(
            f"training of {folder.name} ended with status {status}; its own lines above say why."
        )
    if not is_complete(run):
        raise KeyboardInterrupt  # after SIGTERM the run has saved and exited with 0


def _trained(config: Path, launcher: str) -> int:
    """Train as a configuration file says; gives the exit status. SIGTERM is passed on.

    Raises ``KeyboardInterrupt`` where the run was stopped, also by a signal that came before the
    run could save and exit with 0.
    """
    process: subprocess.Popen[bytes] | None = None
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        if process:
            process.terminate()

    handler = signal.signal(signal.SIGTERM, stop)
    try:
        command = [*typed(launcher), "-m", "training.train"] if launcher else by_path("train")
        process = subprocess.Popen(
            [*command, "--config", str(config)],
            env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        )
        if stopped:  # before there was a process to end
            process.terminate()
        status = process.wait()
    except KeyboardInterrupt:
        if process:
            process.wait()  # it received the signal too, and saves
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)
    if stopped or status == -signal.SIGTERM:
        raise KeyboardInterrupt
    return status


def _require_same(before: dict[str, Any], run: TrainingConfig) -> None:
    old, new = (
        {key: value for key, value in flat(values).items() if key not in ("data", "output")}
        for values in (before, run.to_dict())
    )
    if changed := differences(old, new):
        raise ConfigError(
            f"{run.output} was trained with another configuration: {'; '.join(changed)}. Name "
            "another --output, or remove that folder to train it anew."
        )


def last_step(run: TrainingConfig) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    return max((step_of(checkpoint) for checkpoint in checkpoints(Path(run.output))), default=0)


def is_complete(run: TrainingConfig) -> bool:
    return last_step(run) == run.steps


def cpu_seconds(run: TrainingConfig) -> float:
    """CPU time of the training so far, without that of a study that was killed."""
    file = Path(run.output) / _COST_FILE
    return read_json(file)["cpu_seconds"] if file.is_file() else 0.0


def _children_cpu_seconds() -> float:
    """User and system time of all child processes that have ended; 0 on Windows."""
    times = os.times()
    return times.children_user + times.children_system

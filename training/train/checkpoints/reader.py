"""Checkpoints on disk: whole or not there at all, and never lost for a younger one that failed.

A checkpoint is a folder ``checkpoints/step-00000200`` of its run. It is written under a temporary name, brought to the disk, and
renamed: whatever has its final name is complete. It is removed the same way, so that a half removed one is not picked up either.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = "checkpoints"
SUMMARY = "summary.json"
MODEL = "model.safetensors"
STATE = "state.safetensors"
"""What only going on needs: the optimizer's moments, and adapters with their averages."""
LORA = "lora.safetensors"

_NAME = re.compile(r"step-(\d{8,})")
_TEMPORARY = re.compile(r"\.step-\d{8,}\.\d+\.tmp")


class CheckpointError(ValueError):
    """A checkpoint that is missing, or cannot be read or written; the message says which, why, and what to do."""


def ema_file(decay: float) -> str:
    return f"ema-{decay}.safetensors"


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    folder = run / FOLDER
    return (
        sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()), key=step_of)
        if folder.is_dir()
        else []
    )


def latest(run: Path) -> Path:
    """The newest complete checkpoint of a run. Raises ``CheckpointError`` where there is none."""
    if found := checkpoints(run):
        return found[-1]
    why = (
        "no such folder"
        if not run.exists()
        else f"no checkpoint in its {FOLDER}"
        if (run / "config.yaml").exists()
        else "not a run's folder"
    )
    raise CheckpointError(
        f"{run}: {why}. A run writes one every checkpoints.every steps, at its end, and when it is stopped."
    )


def step_of(checkpoint: Path) -> int:
    match = _NAME.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def read_summary(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint knows beside its tensors. Raises ``CheckpointError``."""
    try:
        return json.loads((checkpoint / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(checkpoint, SUMMARY, error) from None


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one of a checkpoint's files. Raises ``CheckpointError``."""
    try:
        return load_file(checkpoint / name)
    except (OSError, SafetensorError) as error:
        raise _unreadable(checkpoint, name, error) from None


class CheckpointWriter:
    """Writes one checkpoint, file by file. Nothing has its final name before ``finish``."""

    def __init__(self, run: Path, step: int) -> None:
        self.final = run / FOLDER / f"step-{step:08d}"
        self.temporary = self.final.with_name(f".{self.final.name}.{os.getpid()}.tmp")

    def begin(self) -> Path:
        """Make the temporary folder."""
        self.temporary.mkdir(parents=True)
        return self.temporary

    def discard(self) -> None:
        """Remove what has not got its final name."""
        shutil.rmtree(self.temporary, ignore_errors=True)

    def write(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        save_file(
            {key: value.contiguous() for key, value in tensors.items()},
            self.temporary / name,
            dict(metadata),
        )

    def finish(self, summary: Mapping[str, Any]) -> Path:
        """Write the summary, and give the folder its final name. Raises ``CheckpointError`` where another has it."""
        if self.final.exists():
            raise CheckpointError(f"{self.final} exists already, and is not written over.")
        (self.temporary / SUMMARY).write_text(
            json.dumps(summary, indent=1, ensure_ascii=False), encoding="utf-8"
        )
        for path in (*self.temporary.rglob("*"), self.temporary):
            _to_disk(path)
        self.temporary.rename(self.final)
        _to_disk(self.final.parent)
        return self.final


def write_failure(run: Path, error: Exception) -> CheckpointError:
    """``error``, met while writing, in words that say what is left."""
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    what = (
        f"the disk of {run} is full"
        if full
        else f"a checkpoint could not be written in {run} ({error})"
    )
    kept = checkpoints(run)
    left = (
        f"The last good checkpoint is {kept[-1]}; make room and go on from it by --resume latest."
        if kept
        else "There is no earlier checkpoint."
    )
    return CheckpointError(f"{what}. {left}")


def prune(run: Path, keep: int, milestones: Collection[int]) -> None:
    """Remove all but the newest ``keep`` checkpoints and those at ``milestones``; one that another program holds open is left for the next time."""
    for checkpoint in checkpoints(run)[:-keep]:
        if step_of(checkpoint) not in milestones:
            doomed = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.tmp")
            with suppress(OSError):
                checkpoint.rename(doomed)
                shutil.rmtree(doomed)


def remove_unfinished(run: Path) -> None:
    """Remove what a killed run was writing or removing: folders of our temporary names, and nothing else."""
    folder = run / FOLDER
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _unreadable(checkpoint: Path, name: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint / name} cannot be read ({error}). Nothing was changed or removed. To go on from the checkpoint before, move {checkpoint.name} elsewhere."
    )


def _to_disk(path: Path) -> None:
    """Have the system write a file, or the names in a folder, before anything after it."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot
            raise
    finally:
        os.close(descriptor)

"""Checkpoints on disk: which there are, what is in them, and which to remove."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from comfyui_fitv2.checkpoint_error import DOWNLOAD_AGAIN, CheckpointError
from comfyui_fitv2.metadata import METADATA_KEY, Metadata
from comfyui_fitv2.sharded import find_source
from comfyui_fitv2.split_tensors import SplitTensor, read_split

from ...whole_files import TEMPORARY_SUFFIX
from .run_folder import (
    CHECKPOINTS,
    CONFIG,
    MODEL,
    SUMMARY,
    RunError,
    find_file,
    is_checkpoint,
    step_of,
)
from .summary import CheckpointSummary

_TEMPORARY = re.compile(rf"\.(step-\d{{8,}})\.\d+{re.escape(TEMPORARY_SUFFIX)}")


def temporary_path(checkpoint: Path) -> Path:
    """The name of a checkpoint while this process writes or removes it."""
    return checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}{TEMPORARY_SUFFIX}")


def checkpoints(run: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    folder = run / CHECKPOINTS
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(filter(is_checkpoint, found), key=step_of)


def latest(run: Path) -> Path:
    """The newest complete checkpoint of a run. Raises ``RunError`` where there is none."""
    if found := checkpoints(run):
        return found[-1]
    if not run.exists():
        reason = "no such folder"
    elif (run / CONFIG).exists():
        reason = f"no checkpoint in its {CHECKPOINTS}"
    else:
        reason = "not a run's folder"
    raise RunError(
        f"{run}: {reason}. A run writes a checkpoint every checkpoints.every steps, at its end, "
        "and when it is stopped."
    )


def last_good(run: Path) -> str:
    """Where the last good state of a run is, as a sentence for messages of errors."""
    if found := checkpoints(run):
        return f"The last good checkpoint is {found[-1]}; resume with --resume latest."
    return "No checkpoint has been written yet."


def read_summary(checkpoint: Path) -> CheckpointSummary:
    """Raises ``RunError`` where the summary cannot be read."""
    try:
        return CheckpointSummary.from_json((checkpoint / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(checkpoint, checkpoint / SUMMARY, error) from None


def read_metadata(checkpoint: Path, name: str = MODEL) -> Metadata:
    """What the weights file ``name`` says besides its tensors. Raises ``RunError``."""
    first = _files(checkpoint, name)[0]
    try:
        with safe_open(first, "pt") as file:
            return Metadata.from_json((file.metadata() or {}).get(METADATA_KEY, ""))
    except (OSError, SafetensorError, ValueError) as error:
        raise unreadable(checkpoint, first, error) from None


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """The tensors of the file ``name``, whole, whether it is in parts or not.

    They are merged one by one, without the processes that wrote them. Raises ``RunError``.
    """
    split = _read(checkpoint, name, header_only=False)
    return {key: split.pop(key).merged() for key in list(split)}


def read_shapes(checkpoint: Path, name: str) -> dict[str, SplitTensor]:
    """The shapes of the tensors in the file ``name``, and where each is. Raises ``RunError``."""
    return _read(checkpoint, name, header_only=True)


def _read(checkpoint: Path, name: str, header_only: bool) -> dict[str, SplitTensor]:
    files = _files(checkpoint, name)
    try:
        return read_split(files, header_only=header_only)[0]
    except CheckpointError as error:
        raise unreadable(checkpoint, error.path, _reason(error)) from None
    except OSError as error:
        raise unreadable(checkpoint, find_file(checkpoint, name), error) from None


def _files(checkpoint: Path, name: str) -> tuple[Path, ...]:
    """The file ``name``, or all of its parts."""
    place = find_file(checkpoint, name)
    try:
        return find_source(place).files
    except CheckpointError as error:
        raise unreadable(checkpoint, error.path, _reason(error)) from None
    except OSError as error:
        raise unreadable(checkpoint, place, error) from None


def prune(run: Path, keep: int, milestones: Collection[int]) -> None:
    """Remove all checkpoints but the newest ``keep`` and those at ``milestones``.

    One that another program holds open stays until the next time.
    """
    for checkpoint in checkpoints(run)[:-keep]:
        if step_of(checkpoint) not in milestones:
            with suppress(OSError):
                doomed = temporary_path(checkpoint)
                checkpoint.rename(doomed)  # so that a half-removed one is never resumed
                (doomed / SUMMARY).unlink()
                shutil.rmtree(doomed)


def finish_renames(run: Path) -> None:
    """Give their names to complete checkpoints that were written and could not be renamed."""
    for path, final in _temporary_folders(run):
        if _lacks_only_its_name(path, final):
            with suppress(OSError):
                path.rename(final)


def remove_unfinished(run: Path) -> None:
    """Remove what a killed run was writing or removing: folders with our temporary names only."""
    for path, final in _temporary_folders(run):
        if not _lacks_only_its_name(path, final):
            shutil.rmtree(path, ignore_errors=True)


def _temporary_folders(run: Path) -> list[tuple[Path, Path]]:
    """Checkpoints under temporary names, and the names they would get."""
    folder = run / CHECKPOINTS
    found = folder.iterdir() if folder.is_dir() else ()
    matches = [(path, _TEMPORARY.fullmatch(path.name)) for path in found]
    return [(path, path.with_name(match[1])) for path, match in matches if match]


def _lacks_only_its_name(path: Path, final: Path) -> bool:
    return (path / SUMMARY).is_file() and not final.exists()


def _reason(error: CheckpointError) -> str:
    return error.what.removesuffix(DOWNLOAD_AGAIN).rstrip(" .")


def unreadable(checkpoint: Path, file: Path, reason: object) -> RunError:
    """The error for a ``file`` of a checkpoint that cannot be read."""
    return RunError(
        f"{file} cannot be read ({reason}). Nothing was changed or removed. "
        f"To resume from the checkpoint before, move {checkpoint.name} elsewhere."
    )

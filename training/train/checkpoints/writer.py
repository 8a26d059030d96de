"""Writing a checkpoint atomically, from one process or many.

Atomic: a checkpoint is complete or absent, and an older one is deleted only after a newer one is
complete. It is a folder that is written under a temporary name, brought to the disk, and renamed.
Its summary is written last, so a folder with one is complete whatever its name is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from ...failures import is_full_disk
from ...whole_files import rename, sync_to_disk, write_text, write_whole
from .reader import last_good, temporary_path
from .run_folder import CHECKPOINTS, SUMMARY, RunError, step_name
from .summary import CheckpointSummary


class CheckpointFolder:
    """The folder of the checkpoint of one step, under a temporary name until it is complete.

    One process makes, completes or discards it. Its methods raise ``OSError`` and
    ``SafetensorError``.
    """

    def __init__(self, run: Path, step: int) -> None:
        self.run = run
        self.final = run / CHECKPOINTS / step_name(step)
        self.temporary = temporary_path(self.final)
        self.is_complete = False

    def create(self) -> None:
        self.temporary.mkdir(parents=True)

    def write(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write one safetensors file of the checkpoint."""
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        with write_whole(self.temporary / name) as file:
            save_file(contiguous, file, dict(metadata))

    def complete(self, summary: CheckpointSummary) -> None:
        """Write the summary, and give the folder its final name.

        Where only the rename is denied, as Windows does while another program reads the files, the
        folder keeps its temporary name and a line says so; ``reader.finish_renames`` tries again.
        Raises ``RunError`` where the name is taken.
        """
        if self.final.exists():
            raise RunError(f"{self.final} exists already, and is not overwritten.")
        write_text(self.temporary / SUMMARY, summary.to_json())
        sync_to_disk(self.temporary)
        self.is_complete = True
        try:
            rename(self.temporary, self.final)
        except PermissionError as error:
            tqdm.write(
                f"the checkpoint of step {summary.step} is complete, but the system does not let "
                f"it be renamed ({error.strerror}); it stays in {self.temporary} until the next "
                "save or start. Training goes on."
            )
        sync_to_disk(self.final.parent)

    def discard(self) -> None:
        """Remove the folder unless it is complete."""
        if not self.is_complete:
            shutil.rmtree(self.temporary, ignore_errors=True)


class CheckpointWriter:
    """A context in which the checkpoint of one step is written, whole and at once.

    Every process of the ``accelerator`` must enter it, call the same methods and leave it; the main
    process writes. Leaving raises ``RunError`` in all of them where it could not. Without an
    accelerator this process is the only one.
    """

    def __init__(self, run: Path, step: int, accelerator: Accelerator | None = None) -> None:
        self.folder = CheckpointFolder(run, step)
        self._accelerator = accelerator
        self._writes = accelerator is None or accelerator.is_main_process
        self._failure: RunError | None = None

    def __enter__(self) -> CheckpointWriter:
        self._attempt(self.folder.create)
        return self

    def write(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write one safetensors file of the checkpoint."""
        self._attempt(lambda: self.folder.write(name, tensors, metadata))

    def finish(self, summary: CheckpointSummary) -> None:
        """Complete the checkpoint; see ``CheckpointFolder.complete``."""
        self._attempt(lambda: self.folder.complete(summary))

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._writes:
            self.folder.discard()
        if kind is not None:
            return
        failures: list[Any] = [self._failure]
        if self._accelerator is not None:
            broadcast_object_list(failures)
        if failures[0] is not None:
            raise failures[0]

    def _attempt(self, action: Callable[[], None]) -> None:
        if self._writes and self._failure is None:
            self._failure = attempt(self.folder.run, action)


def attempt(run: Path, action: Callable[[], None]) -> RunError | None:
    """Do what writes to the folder of a run; gives the error to raise where that failed."""
    try:
        action()
    except RunError as error:
        return error
    except (OSError, SafetensorError) as error:
        return write_failure(run, error)
    return None


def write_failure(run: Path, error: Exception) -> RunError:
    """What to say where a checkpoint could not be written."""
    full = is_full_disk(error)
    reason = f"the disk of {run} is full" if full else f"cannot write to {run} ({error})"
    return RunError(f"{reason}. {'Make room there. ' if full else ''}{last_good(run)}")

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


class CheckpointWriter:
    """A context in which the checkpoint of one step is written.

    Every process of the ``accelerator`` must enter it, call the same methods and leave it; the main
    process writes. Leaving raises ``RunError`` in all of them where it could not. Without an
    accelerator this process is the only one.

    Where only the last rename is denied, as Windows does while another program reads the files, the
    checkpoint keeps its temporary name and a line says so; ``reader.finish_renames`` tries again.
    """

    def __init__(self, run: Path, step: int, accelerator: Accelerator | None = None) -> None:
        self.run = run
        self.final = run / CHECKPOINTS / step_name(step)
        self.temporary = temporary_path(self.final)
        self._accelerator = accelerator
        self._writes = accelerator is None or accelerator.is_main_process
        self._failure: RunError | None = None
        self._is_complete = False

    def __enter__(self) -> CheckpointWriter:
        self._attempt(lambda: self.temporary.mkdir(parents=True))
        return self

    def write(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write one safetensors file of the checkpoint."""
        contiguous = {key: value.contiguous() for key, value in tensors.items()}

        def save() -> None:
            with write_whole(self.temporary / name) as file:
                save_file(contiguous, file, dict(metadata))

        self._attempt(save)

    def finish(self, summary: CheckpointSummary) -> None:
        """Write the summary, and give the folder its final name unless it is taken."""
        self._attempt(lambda: self._finish(summary))

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._writes and not self._is_complete:
            shutil.rmtree(self.temporary, ignore_errors=True)
        if kind is not None:
            return
        failures: list[Any] = [self._failure]
        if self._accelerator is not None:
            broadcast_object_list(failures)
        if failures[0] is not None:
            raise failures[0]

    def _attempt(self, action: Callable[[], None]) -> None:
        # After a failure the main process still helps the others to gather sharded tensors.
        if not self._writes or self._failure is not None:
            return
        try:
            action()
        except RunError as error:
            self._failure = error
        except (OSError, SafetensorError) as error:
            self._failure = _write_failure(self.run, error)

    def _finish(self, summary: CheckpointSummary) -> None:
        if self.final.exists():
            raise RunError(f"{self.final} exists already, and is not overwritten.")
        write_text(self.temporary / SUMMARY, summary.to_json())
        sync_to_disk(self.temporary)
        self._is_complete = True
        try:
            rename(self.temporary, self.final)
        except PermissionError as error:
            tqdm.write(
                f"the checkpoint of step {summary.step} is complete, but the system does not let "
                f"it be renamed ({error.strerror}); it stays in {self.temporary} until the next "
                "save or start. Training goes on."
            )
        sync_to_disk(self.final.parent)


def _write_failure(run: Path, error: Exception) -> RunError:
    full = is_full_disk(error)
    reason = f"the disk of {run} is full" if full else f"cannot write to {run} ({error})"
    return RunError(f"{reason}. {'Make room there. ' if full else ''}{last_good(run)}")

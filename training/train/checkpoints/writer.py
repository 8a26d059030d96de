"""Writing a checkpoint atomically, from one process or many.

Atomic: a checkpoint is complete or absent, and an older one is deleted only after a newer one is
complete. It is a folder that is written under a temporary name, brought to the disk, and renamed.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ...whole_files import sync_to_disk
from .reader import checkpoints, temporary_path
from .run_folder import CHECKPOINTS, SUMMARY, RunError, step_name
from .summary import CheckpointSummary


class CheckpointWriter:
    """A context in which the checkpoint of one step is written.

    Every process of the ``accelerator`` must enter it, call the same methods and leave it; the main
    process writes. Leaving raises ``RunError`` in all of them where it could not. Without an
    accelerator this process is the only one.
    """

    def __init__(self, run: Path, step: int, accelerator: Accelerator | None = None) -> None:
        self.run = run
        self.final = run / CHECKPOINTS / step_name(step)
        self.temporary = temporary_path(self.final)
        self._accelerator = accelerator
        self._writes = accelerator is None or accelerator.is_main_process
        self._failure: RunError | None = None

    def __enter__(self) -> CheckpointWriter:
        self._attempt(lambda: self.temporary.mkdir(parents=True))
        return self

    def write(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Write one safetensors file of the checkpoint."""
        contiguous = {key: value.contiguous() for key, value in tensors.items()}
        self._attempt(lambda: save_file(contiguous, self.temporary / name, dict(metadata)))

    def finish(self, summary: CheckpointSummary) -> None:
        """Write the summary, and give the folder its final name unless it is taken."""
        self._attempt(lambda: self._finish(summary))

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self._writes:
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
        (self.temporary / SUMMARY).write_text(summary.to_json(), encoding="utf-8")
        for path in (*self.temporary.rglob("*"), self.temporary):
            sync_to_disk(path)
        self.temporary.rename(self.final)
        sync_to_disk(self.final.parent)


def _write_failure(run: Path, error: Exception) -> RunError:
    full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
    reason = f"the disk of {run} is full" if full else f"cannot write to {run} ({error})"
    found = checkpoints(run)
    remedy = (
        f"The last good checkpoint is {found[-1]}; make room and resume with --resume latest."
        if found
        else "There is no earlier checkpoint."
    )
    return RunError(f"{reason}. {remedy}")

"""Saving a run: whole and at once, or in parts while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, wait
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import async_save

from .reader import finish_renames, prune
from .run_folder import LORA, parts_folder
from .state import TrainingState
from .storage import PartsWriter
from .summary import CheckpointSummary
from .writer import CheckpointFolder, CheckpointWriter, attempt, write_failure

_TIMEOUT = timedelta(hours=1)
"""Longer than the slowest process takes to write its part after the first one has."""


class Saver:
    """Writes the checkpoints of a run, and removes those that need not be kept.

    Where weights are sharded, each process copies its slices to the host's memory and writes them
    while training goes on; else the main process writes the whole before training goes on. Every
    process must make a saver, and call its methods at the same steps. They raise ``RunError`` where
    a checkpoint could not be written.
    """

    def __init__(
        self,
        run: Path,
        state: TrainingState,
        accelerator: Accelerator,
        keep: int,
        also_kept: Callable[[], Collection[int]],
    ) -> None:
        """``keep`` newest checkpoints stay, and those of the steps that ``also_kept`` gives."""
        self.run, self.state, self.accelerator = run, state, accelerator
        self.keep, self.also_kept = keep, also_kept
        self._saving: _PartsSave | None = None
        # A group of its own, because training communicates at the same time.
        self._group = dist.new_group(timeout=_TIMEOUT, backend="gloo") if state.is_sharded else None

    def save(self, summary: CheckpointSummary, metadata: Mapping[str, str]) -> None:
        """Write a checkpoint, after the one before is complete; ``metadata`` is that of files."""
        self.wait()
        if self._group is None:
            with CheckpointWriter(self.run, self.state.step, self.accelerator) as writer:
                for name, tensors in self.state.files():
                    writer.write(name, tensors, metadata)
                writer.finish(summary)
            self._remove_old()
            return
        files = dict(self.state.files())
        self._saving = _PartsSave(self.run, files, summary, metadata, self.accelerator, self._group)

    def look(self) -> None:
        """Finish what is complete, without waiting."""
        if self._saving is not None and self._saving.is_done:
            self.wait()

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is complete."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.finish()
            self._remove_old()

    def abandon(self, seconds: float) -> None:
        """Wait for some time, and say nothing of a failure: after another one, at the end."""
        if self._saving is not None:
            self._saving.wait(seconds)

    def _remove_old(self) -> None:
        if self.accelerator.is_main_process:
            finish_renames(self.run)
            prune(self.run, self.keep, self.also_kept())


class _PartsSave:
    """One checkpoint of sharded weights on its way to the disk.

    The folder is complete when all processes have written their parts: until then it has a
    temporary name, and the checkpoint before stays.
    """

    def __init__(
        self,
        run: Path,
        files: dict[str, dict[str, Tensor]],
        summary: CheckpointSummary,
        metadata: Mapping[str, str],
        accelerator: Accelerator,
        group: Any,
    ) -> None:
        self._folder = CheckpointFolder(run, summary.step)
        self._is_main = accelerator.is_main_process
        whole = files.pop(LORA, None)

        def create() -> None:
            self._folder.create()
            if whole is not None:
                self._folder.write(LORA, whole, metadata)

        failure = attempt(run, create) if self._is_main else None
        said: list[Any] = [failure, self._folder.temporary]
        broadcast_object_list(said)
        if said[0] is not None:
            self._discard()
            raise said[0]
        names = {name: parts_folder(name) for name in files}
        saving = async_save(
            {
                f"{names[n]}/{key}": value
                for n, each in files.items()
                for key, value in each.items()
            },
            storage_writer=PartsWriter(
                checkpoint=said[1],
                folders=list(names.values()),
                metadata=metadata,
                process=accelerator.process_index,
                processes=accelerator.num_processes,
                complete=lambda: self._folder.complete(summary),
            ),
            process_group=group,
        )
        self._future = saving if isinstance(saving, Future) else saving.upload_completion

    @property
    def is_done(self) -> bool:
        return self._future.done()

    def wait(self, seconds: float) -> None:
        wait([self._future], seconds)

    def finish(self) -> None:
        """Wait for the end. Raises ``RunError`` in every process where one could not write."""
        try:
            self._future.result()
        except CheckpointException as failed:
            error = next(iter(failed.failures.values()))[0]
            if isinstance(error, (OSError, SafetensorError)):
                raise write_failure(self._folder.run, error) from None
            raise error from None
        finally:
            self._discard()

    def _discard(self) -> None:
        if self._is_main:
            self._folder.discard()

"""Writing a checkpoint from all processes: every one of them helps to gather, one writes, all hear of a failure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError

from .reader import CheckpointError, CheckpointWriter, write_failure
from .state import TrainingState

ENGINE = "deepspeed"
"""Folder, within a checkpoint, of what DeepSpeed keeps itself."""


def write_checkpoint(
    accelerator: Accelerator,
    state: TrainingState,
    run: Path,
    summary: Mapping[str, Any],
    metadata: Mapping[str, str],
    engine: Any,
) -> None:
    """Write the checkpoint of ``state.step``. ``engine`` is DeepSpeed's, or None. Raises ``CheckpointError`` in every process where it could not be written."""
    writer = CheckpointWriter(run, state.step)
    failures: list[CheckpointError | None] = [None]

    def attempt(action: Callable[[], Any]) -> None:
        # After a failure the others still wait for this process to gather with them.
        if accelerator.is_main_process and failures[0] is None:
            try:
                action()
            except (OSError, SafetensorError) as error:
                failures[0] = write_failure(run, error)
            except CheckpointError as error:
                failures[0] = error

    try:
        attempt(writer.begin)
        for name, tensors in state.files(accelerator.is_main_process):
            attempt(partial(writer.write, name, tensors, metadata))
        if engine is not None:
            folder: list[Any] = broadcast_object_list([str(writer.temporary / ENGINE)])
            engine.save_checkpoint(folder[0])
            accelerator.wait_for_everyone()
        attempt(partial(writer.finish, summary))
        broadcast_object_list(failures)
    finally:
        if accelerator.is_main_process:
            writer.discard()
    if failures[0] is not None:
        raise failures[0]

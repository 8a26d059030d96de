"""Where torch.distributed.checkpoint writes and reads: safetensors files, a part per process.

A name in what is saved is <folder>/<tensor>; each process writes one file in each folder. Reading
takes such parts of any number of processes, and whole files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Size, Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItem,
)
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from comfyui_fitv2.split_tensors import OFFSETS_KEY, SLICES_KEY, SplitTensor

from ...whole_files import write_whole
from .run_folder import RunError, part_name


@dataclass(slots=True)
class PartsWriter(StorageWriter):
    """Writes this process's part of each of ``folders``, which are made in ``checkpoint``."""

    checkpoint: Path
    folders: Sequence[str]
    metadata: Mapping[str, str]
    """Of every file, besides the offsets of its slices."""
    process: int
    processes: int
    complete: Callable[[], None]
    """Called by the main process when all parts of all processes are on the disk."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        by_folder: dict[str, dict[str, WriteItem]] = {folder: {} for folder in self.folders}
        for item in plan.items:
            folder, _, name = item.index.fqn.partition("/")
            by_folder[folder][name] = item
        written: list[WriteResult] = []
        for folder, items in by_folder.items():
            written += self._write(folder, items, planner)
        return _done(written)

    def _write(
        self, folder: str, items: Mapping[str, WriteItem], planner: SavePlanner
    ) -> list[WriteResult]:
        tensors: dict[str, Tensor] = {}
        offsets: dict[str, Any] = {}
        for name, item in items.items():
            values = planner.resolve_data(item)
            assert isinstance(values, Tensor)
            assert item.tensor_data is not None
            if values.numel():  # more processes than rows leave some without any
                tensors[name] = values.detach().cpu().contiguous()
                offsets[name] = {OFFSETS_KEY: list(item.tensor_data.chunk.offsets)}
        path = self.checkpoint / folder / part_name(self.process, self.processes)
        path.parent.mkdir(exist_ok=True)
        with write_whole(path) as temporary:
            save_file(tensors, temporary, {**self.metadata, SLICES_KEY: json.dumps(offsets)})
        return [WriteResult(items[name].index, tensors[name].nbytes, None) for name in tensors]

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Complete the checkpoint. Raises ``RunError`` where this process sees not all parts."""
        for folder in self.folders:
            for process in range(self.processes):
                path = self.checkpoint / folder / part_name(process, self.processes)
                if not path.is_file():
                    raise RunError(
                        f"{path} was written by another process, and is not here. Give --output a "
                        "folder that all machines share."
                    )
        self.complete()

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing is kept between checkpoints."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the main process has made the folder."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return plans

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return False


@dataclass(slots=True)
class SlicesReader(StorageReader):
    """Reads the slices that this process needs of ``tensors``."""

    tensors: Mapping[str, SplitTensor]

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return Metadata(
            {
                name: TensorStorageMetadata(
                    TensorProperties(tensor.dtype),
                    tensor.shape,
                    [
                        ChunkStorageMetadata(Size(each.offsets), each.values.shape)
                        for each in tensor.slices
                    ],
                )
                for name, tensor in self.tensors.items()
            }
        )

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        by_file: dict[Path, list[ReadItem]] = {}
        for item in plan.items:
            by_file.setdefault(self._file(item.storage_index), []).append(item)
        for path, items in by_file.items():
            with safe_open(path, "pt") as file:
                for item in items:
                    ends = map(sum, zip(item.storage_offsets, item.lengths, strict=True))
                    region = tuple(map(slice, item.storage_offsets, ends))
                    name = item.storage_index.fqn
                    values = file.get_slice(name)[region] if region else file.get_tensor(name)
                    planner.resolve_tensor(item).detach().copy_(values)
        return _done(None)

    def _file(self, index: MetadataIndex) -> Path:
        slices = self.tensors[index.fqn].slices
        return next(each.file for each in slices if Size(each.offsets) == index.offset)

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing to do: the files are known."""

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing is kept."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return False


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future

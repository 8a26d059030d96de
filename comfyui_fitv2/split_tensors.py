"""Safetensors files that hold slices of the same tensors, as processes save sharded weights.

A file's metadata say at which offsets of its tensors the slices begin. The format is that of the
HuggingFaceStorageWriter of torch.distributed.checkpoint; no process group is needed to read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .checkpoint_error import DOWNLOAD_AGAIN, CheckpointError
from .metadata import METADATA_TENSOR
from .safetensors_file import read_safetensors, read_safetensors_header
from .untrusted_json import parse_json

SLICES_KEY, OFFSETS_KEY = "DCP_SHARDING_INFO", "saved_offsets"
"""In a file's metadata: JSON of {tensor: {OFFSETS_KEY: [offset of each dimension]}}."""


@dataclass(frozen=True, slots=True)
class TensorSlice:
    """A slice of a tensor, and where it begins in it."""

    file: Path
    offsets: tuple[int, ...]
    values: Tensor
    """Mapped from the file; on the meta device where only the header was read."""


@dataclass(frozen=True, slots=True)
class SplitTensor:
    """A tensor as its slices, which are in order along one dimension and leave no gap."""

    dimension: int
    slices: tuple[TensorSlice, ...]

    @property
    def shape(self) -> torch.Size:
        sizes = list(self.slices[0].values.shape)
        for each in self.slices[1:]:
            sizes[self.dimension] += each.values.shape[self.dimension]
        return torch.Size(sizes)

    @property
    def dtype(self) -> torch.dtype:
        return self.slices[0].values.dtype

    def merged(self) -> Tensor:
        """The whole tensor; mapped from its file where that holds all of it."""
        if len(self.slices) == 1:
            return self.slices[0].values
        return torch.cat([each.values for each in self.slices], self.dimension)


def is_split(file: Path) -> bool:
    """Whether a file is one of several that hold slices of tensors."""
    try:
        with safe_open(file, "pt") as opened:
            return SLICES_KEY in (opened.metadata() or {})
    except (SafetensorError, OSError, RuntimeError):
        return False  # another format, or a file whose reader says what is wrong


def read_split(
    files: Sequence[Path], *, header_only: bool = False
) -> tuple[dict[str, SplitTensor], dict[str, str]]:
    """The tensors of all files by name, and the metadata of the first file.

    With ``header_only`` values are on the meta device. A file without offsets holds whole tensors.
    Raises ``CheckpointError`` where a file is damaged, and where the slices of a tensor do not fit
    together, and ``FileNotFoundError``.
    """
    found: dict[str, list[TensorSlice]] = {}
    first: dict[str, str] | None = None
    for file in files:
        tensors, metadata = (
            read_safetensors_header(file, METADATA_TENSOR)
            if header_only
            else read_safetensors(file)
        )
        first = metadata if first is None else first
        offsets = _offsets(file, tensors, metadata)
        for name, values in tensors.items():
            found.setdefault(name, []).append(TensorSlice(file, offsets[name], values))
    return {name: _in_order(name, slices) for name, slices in found.items()}, first or {}


def _offsets(
    file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    if SLICES_KEY not in metadata:
        return {name: (0,) * values.ndim for name, values in tensors.items()}
    try:
        stored: Any = parse_json(metadata[SLICES_KEY])
        offsets = {name: tuple(stored[name][OFFSETS_KEY]) for name in tensors}
        if not all(
            len(offsets[name]) == values.ndim and all(type(o) is int for o in offsets[name])
            for name, values in tensors.items()
        ):
            raise ValueError("an offset is no integer, or one is missing")
    except (ValueError, TypeError, KeyError) as error:
        what = f"a part of a checkpoint whose offsets cannot be read ({error}). {DOWNLOAD_AGAIN}"
        raise CheckpointError(file, what) from None
    return offsets


def _in_order(name: str, slices: list[TensorSlice]) -> SplitTensor:
    """Raises ``CheckpointError`` unless the slices begin at 0 and follow one another."""
    differing = {
        d
        for a in slices
        for d, (here, there) in enumerate(zip(a.offsets, slices[0].offsets, strict=False))
        if here != there
    }
    dimension = min(differing, default=0)
    slices.sort(key=lambda each: each.offsets[dimension : dimension + 1])
    begins = [0] * slices[0].values.ndim
    for each in slices:
        fits = each.values.ndim == len(begins) and each.offsets == tuple(begins)
        is_one_of_many_scalars = not begins and len(slices) > 1
        if (
            not fits
            or is_one_of_many_scalars
            or not _same_elsewhere(each.values, slices[0].values, dimension)
        ):
            raise CheckpointError(
                each.file,
                f"a part of a checkpoint whose slice of {name} from {list(each.offsets)} on does "
                "not fit those in the other parts. They are of different checkpoints, or one is "
                f"missing. {DOWNLOAD_AGAIN}",
            )
        if begins:
            begins[dimension] += each.values.shape[dimension]
    return SplitTensor(dimension, tuple(slices))


def _same_elsewhere(a: Tensor, b: Tensor, dimension: int) -> bool:
    """Whether two slices have one dtype, and one size in all dimensions but this one."""
    sizes = [(d, size) for d, size in enumerate(a.shape) if d != dimension]
    return a.dtype == b.dtype and all(b.shape[d] == size for d, size in sizes)

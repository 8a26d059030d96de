"""The weights of a checkpoint, wherever they are stored and however they are wrapped."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .checkpoint_error import DOWNLOAD_AGAIN, CheckpointError
from .metadata import METADATA_KEY, METADATA_TENSOR
from .quantized import is_fp8, without_scales
from .sharded import Source, find_source
from .split_tensors import is_split, read_split
from .weights_file import read_file, read_header
from .wrappers import unwrap

_log = logging.getLogger(__name__)
_LONGEST_METADATA = 16 * 2**20
"""In bytes; class names and preview colours take some hundred thousand at most."""


@dataclass(frozen=True, slots=True)
class Weights:
    """All that the files of a checkpoint hold, before it is known what model it is."""

    path: Path
    """The file to name in messages."""
    tensors: dict[str, Tensor]
    """Under the model's keys."""
    metadata_json: str | None
    """Our own metadata."""
    is_fp8: bool
    """Whether some are stored in fewer bits than they can be computed with."""
    config: Mapping[str, Any]
    """What a config.json beside the files says, by anybody's names."""


def read_weights(path: Path, *, header_only: bool = False) -> Weights:
    """Read a file, the index or a part of several files, or a folder of them.

    Tensors stay mapped from the files where that is possible. With ``header_only`` they have shapes
    and no values: no weights are read, and only safetensors files can be. Where a file holds a
    moving average besides the weights, the average is taken, and the log says so. Raises
    ``CheckpointError`` for anything that holds no weights, or not all, or weights that cannot be
    computed with.
    """
    source = find_source(path)
    content, metadata_json = _read_source(source, header_only)
    unwrapped = unwrap(source.path, content)
    for note in filter(None, (source.note, unwrapped.note)):
        _log.warning("%s: %s.", source.path, note)
    tensors = unwrapped.tensors
    embedded = tensors.pop(METADATA_TENSOR, None)
    if metadata_json is None and embedded is not None:
        metadata_json = _embedded_json(source.path, embedded)
    if metadata_json is None and METADATA_KEY in source.metadata:
        stored = source.metadata[METADATA_KEY]
        metadata_json = stored if isinstance(stored, str) else json.dumps(stored)
    plain = tensors if header_only else without_scales(source.path, tensors)
    return Weights(source.path, plain, metadata_json, is_fp8(tensors), source.config)


def _read_source(source: Source, header_only: bool) -> tuple[object, str | None]:
    """The content of the one file, or of all parts together, and the metadata of the first."""
    read: Callable[[Path], tuple[object, str | None]] = read_header if header_only else read_file
    if not source.weight_map and len(source.files) > 1 and is_split(source.files[0]):
        split, metadata = read_split(source.files, header_only=header_only)
        return {name: each.merged() for name, each in split.items()}, metadata.get(METADATA_KEY)
    if not source.weight_map and len(source.files) == 1:
        return read(source.files[0])
    merged: dict[str, Tensor] = {}
    metadata_json = None
    for file in source.files:
        content, metadata = read(file)
        metadata_json = metadata_json or metadata
        tensors = content if isinstance(content, Mapping) else {}
        expected = [key for key, place in source.weight_map.items() if place == file]
        if lost := [key for key in expected if not isinstance(tensors.get(key), Tensor)]:
            raise CheckpointError(
                file,
                f"not a part of {source.path.name}: it lacks {len(lost)} of the tensors that are "
                f"said to be in it, such as {lost[0]}. {DOWNLOAD_AGAIN}",
            )
        # Where an index says that a tensor is in another part, that part has it.
        here = (key for key in tensors if source.weight_map.get(key, file) == file)
        merged.update((key, tensors[key]) for key in here if isinstance(tensors[key], Tensor))
    return merged, metadata_json


def _embedded_json(path: Path, embedded: Tensor) -> str:
    """The metadata in its tensor, for programs that drop a file's metadata."""
    try:
        if embedded.numel() > _LONGEST_METADATA:
            raise ValueError("it is too long")
        return bytes(embedded.flatten().tolist()).decode("utf-8")
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            path, f"a FiTv2 checkpoint whose {METADATA_TENSOR} is not a text ({error})."
        ) from None

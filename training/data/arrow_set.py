"""The latent sets that ``prepare`` writes: a folder of Arrow files, the shards.

``latent_set.json`` is written last: a set without it is not complete. The shards are Arrow streams
and are memory-mapped, so a set of millions opens in seconds, the processes of a machine share its
pages, and examples can be read in any order, which packing by length and resuming anywhere need.

A row is an example. ``resized`` and ``cropped`` are fp16, of shape (flips, moments, channels,
height, width), flattened: flips are the plain image and, where the set has them, the mirrored one;
moments are the mean and, where the VAE has a posterior, the standard deviation. They are in the
model's scale (the VAE's times ``scale_factor``), where fp16 rounds by less than 1/2000 of a value,
a small part of that standard deviation. An example without a crop has an empty ``cropped`` and
the grid of the resized version. ``colours`` is null but for the few examples to which the colours
of previews are fitted: uint16 (3, height, width), sums over 8 × 8 pixels of the resized image.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from comfyui_fitv2.config import PATCH_SIZE

from ..whole_files import write_json, write_whole
from .latent_set import INFO_FILE, LatentSet, LatentSetError, LatentSetInfo

_FORMAT = 1
_GRID_COLUMNS = ("rows", "columns", "cropped_rows", "cropped_columns")
_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("label", pa.int64()),
        *((name, pa.int32()) for name in _GRID_COLUMNS),
        ("resized", pa.list_(pa.float16())),
        ("cropped", pa.list_(pa.float16())),
        ("colours", pa.list_(pa.uint16())),
    ]
)
_READ_COLUMNS = ["label", *_GRID_COLUMNS, "resized", "cropped"]
_FAILURES_KEY = b"failures"
_ROWS_PER_BATCH = 64


class ArrowLatentSet(LatentSet):
    """A set that ``prepare`` wrote. Raises ``LatentSetError`` for a folder that is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.info, count, shards = _read_info(path)
        self._shards = shards
        paths = [shard_path(path, number) for number in range(shards)]
        if missing := [shard.name for shard in paths if not shard.is_file()]:
            raise LatentSetError(
                path,
                f"{len(missing)} of its {shards} shards are missing, such as {missing[0]}. "
                "Copy it again, or run prepare again.",
            )
        table = pa.concat_tables(
            read_shard(path, number).select(_READ_COLUMNS) for number in range(shards)
        )
        if len(table) != count:
            raise LatentSetError(
                path,
                f"its shards hold {len(table)} examples, not the {count} that {INFO_FILE} counts. "
                "Run prepare again.",
            )
        self.class_ids = table["label"].to_numpy().astype(np.int64)
        grids = [table[name].to_numpy() for name in _GRID_COLUMNS]
        self.grids = np.stack(grids, axis=1).astype(np.int64).reshape(-1, 2, 2)
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)]).tolist()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process maps the files again."""
        return ArrowLatentSet, (self._path,)

    def names(self) -> list[str]:
        return [
            name
            for number in range(self._shards)
            for name in read_shard(self._path, number)["file"].to_pylist()
        ]

    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        batch, row = self._row(int(index))
        cropped = cropped and len(batch["cropped"][row]) > 0
        stored = batch["cropped" if cropped else "resized"][row].values
        rows, columns = self.grids[index, int(cropped)] * PATCH_SIZE
        views = stored.to_numpy().reshape(
            1 + self.info.flips, 1 + self.info.posterior, self.info.channels, rows, columns
        )
        view = torch.from_numpy(views[int(flipped and self.info.flips)].astype(np.float32))
        return view[0], view[1] if self.info.posterior else torch.zeros_like(view[0])

    def _row(self, index: int) -> tuple[pa.RecordBatch, int]:
        number = bisect_right(self._starts, index) - 1
        return self._batches[number], index - self._starts[number]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """A row of a shard."""

    file: str
    class_id: int
    resized: Tensor
    """(flips, moments, channels, height, width) in the model's scale."""
    cropped: Tensor | None
    """As ``resized``; None without a crop."""
    colours: np.ndarray | None = None
    """uint16 (3, height, width), of the few examples to which preview colours are fitted: sums over
    8 × 8 pixels of the resized image."""


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.arrow"


def write_shard(
    folder: Path,
    number: int,
    examples: Sequence[EncodedExample],
    failures: Mapping[str, str] | None = None,
) -> None:
    """Write a shard atomically.

    ``failures`` gives the reason for each file that could not be encoded; the schema carries them.
    """
    metadata = {_FAILURES_KEY: json.dumps(dict(failures or {})).encode()}
    schema = _SCHEMA.with_metadata(metadata)
    with (
        write_whole(shard_path(folder, number)) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_stream(file, schema) as stream,
    ):
        for start in range(0, len(examples), _ROWS_PER_BATCH):
            stream.write_batch(_batch(examples[start : start + _ROWS_PER_BATCH], schema))


def read_shard(folder: Path, number: int) -> pa.Table:
    """A memory-mapped shard. Raises ``LatentSetError`` for a damaged one."""
    path = shard_path(folder, number)
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return stream.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise LatentSetError(
            path, f"not a readable Arrow file ({error}). Remove it, and run prepare again."
        ) from None


def shard_failures(folder: Path, number: int) -> dict[str, str]:
    """The ``failures`` that ``write_shard`` was given."""
    return json.loads((read_shard(folder, number).schema.metadata or {})[_FAILURES_KEY])


def count_examples(folder: Path, shards: int) -> int:
    return sum(len(read_shard(folder, number)) for number in range(shards))


def finish(folder: Path, info: LatentSetInfo, shards: int) -> None:
    """Declare the set of this many shards complete."""
    counts = {"format": _FORMAT, "pictures": count_examples(folder, shards), "shards": shards}
    write_json(folder / INFO_FILE, {**counts, **info.to_dict()})


def _read_info(path: Path) -> tuple[LatentSetInfo, int, int]:
    """What the set says of itself, and the number of its examples and of its shards."""
    if not path.is_dir():
        reason = "a file, not the folder of a latent set." if path.exists() else "no such folder."
        raise LatentSetError(path, reason)
    file = path / INFO_FILE
    if not file.is_file():
        unfinished = any(path.glob("shard-*.arrow"))
        raise LatentSetError(
            path,
            "not finished: run the same prepare command again."
            if unfinished
            else f"not a latent set: it has no {INFO_FILE}. python -m training.prepare makes one.",
        )
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = content.pop("format")
        count, shards = int(content.pop("pictures")), int(content.pop("shards"))
        if version == _FORMAT:
            return LatentSetInfo.from_dict(content), count, shards
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LatentSetError(
            path,
            f"its {INFO_FILE} is damaged ({error!r}). Remove that file, and run prepare again.",
        ) from None
    raise LatentSetError(path, "a latent set of a newer version. Update this project.")


def _batch(examples: Sequence[EncodedExample], schema: pa.Schema) -> pa.RecordBatch:
    resized = [_grid(example.resized) for example in examples]
    cropped = [
        grid if example.cropped is None else _grid(example.cropped)
        for example, grid in zip(examples, resized, strict=True)
    ]
    grids = np.concatenate([np.array(resized), np.array(cropped)], axis=1)
    colours = [None if e.colours is None else e.colours.ravel() for e in examples]
    columns = [
        pa.array([example.file for example in examples]),
        pa.array([example.class_id for example in examples], pa.int64()),
        *(pa.array(column, pa.int32()) for column in grids.T),
        _lists(example.resized for example in examples),
        _lists(example.cropped for example in examples),
        pa.array(colours, pa.list_(pa.uint16())),
    ]
    return pa.record_batch(columns, schema=schema)


def _grid(version: Tensor) -> tuple[int, int]:
    return version.shape[-2] // PATCH_SIZE, version.shape[-1] // PATCH_SIZE


def _lists(tensors: Iterable[Tensor | None]) -> pa.ListArray:
    """One list per tensor, without Python objects for its values; None is an empty list."""
    values = [
        np.empty(0, np.float16)
        if tensor is None
        else tensor.to("cpu", torch.float16).contiguous().numpy().ravel()
        for tensor in tensors
    ]
    offsets = np.cumsum([0, *(len(v) for v in values)], dtype=np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(np.concatenate(values), pa.float16())
    )

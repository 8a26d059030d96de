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
``digest`` identifies the image file's content; shards of older versions have none.

A set that changes never changes a shard: it gets new ones, and ``latent_set.json`` then lists the
numbers of those that count. A program that reads the old set keeps what it has opened.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from comfyui_fitv2.config import PATCH_SIZE
from comfyui_fitv2.untrusted_json import parse_json

from ..whole_files import write_json, write_whole
from .latent_set import INFO_FILE, LatentSet, LatentSetError, LatentSetInfo, SetChange

_FORMAT = 1
_CHANGED_FORMAT = 2
"""Of a set with a list of shards, a history, or labels that are not its class ids."""
_GRID_COLUMNS = ("rows", "columns", "cropped_rows", "cropped_columns")
_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("label", pa.int64()),
        *((name, pa.int32()) for name in _GRID_COLUMNS),
        ("resized", pa.list_(pa.float16())),
        ("cropped", pa.list_(pa.float16())),
        ("colours", pa.list_(pa.uint16())),
        ("digest", pa.binary()),
    ]
)
_READ_COLUMNS = ["label", *_GRID_COLUMNS, "resized", "cropped"]
_FAILURES_KEY = b"failures"
_ROWS_PER_BATCH = 64
_MOST_SHARDS = 1_000_000
_LONGEST_SIDE = 1 << 20
"""In tokens; beyond it the number of an image's tokens could overflow."""


@dataclass(frozen=True, slots=True)
class SetParts:
    """What makes up a complete set on the disk."""

    info: LatentSetInfo
    examples: int
    shards: tuple[int, ...]
    """Numbers of the shards, in their order."""
    class_ids: tuple[int, ...] | None = None
    """The class id of each label in the shards; None where they are the same."""
    history: tuple[SetChange, ...] = ()


class ArrowLatentSet(LatentSet):
    """A set that ``prepare`` wrote. Raises ``LatentSetError`` for a folder that is none."""

    def __init__(self, path: Path, parts: SetParts | None = None) -> None:
        self._path = path
        self._parts = parts = parts or read_parts(path)
        self.info, self.history = parts.info, parts.history
        paths = [shard_path(path, number) for number in parts.shards]
        if missing := [shard.name for shard in paths if not shard.is_file()]:
            raise LatentSetError(
                path,
                f"{len(missing)} of its {len(paths)} shards are missing, such as {missing[0]}. "
                "Copy it again, or run prepare again.",
            )
        tables = [read_shard(path, number) for number in parts.shards]
        table = pa.concat_tables(shard.select(_READ_COLUMNS) for shard in tables)
        if len(table) != parts.examples:
            raise LatentSetError(
                path,
                f"its shards hold {len(table)} examples, not the {parts.examples} that {INFO_FILE} "
                "counts. Run prepare again.",
            )
        _require_consistent(path, parts, table)
        labels = table["label"].to_numpy().astype(np.int64)
        self.class_ids = labels if parts.class_ids is None else np.array(parts.class_ids)[labels]
        grids = [table[name].to_numpy() for name in _GRID_COLUMNS]
        self.grids = np.stack(grids, axis=1).astype(np.int64).reshape(-1, 2, 2)
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)]).tolist()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process maps the same files again, though the set may have changed."""
        return ArrowLatentSet, (self._path, self._parts)

    def names(self) -> list[str]:
        shards = (read_shard(self._path, number) for number in self._parts.shards)
        return [name for shard in shards for name in shard["file"].to_pylist()]

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
    digest: bytes | None = None
    """Identifies the content of the image file; see ``image_digest``."""


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
    schema = _schema(failures or {})
    batches = (
        _batch(examples[start : start + _ROWS_PER_BATCH], schema)
        for start in range(0, len(examples), _ROWS_PER_BATCH)
    )
    _write_batches(folder, number, schema, batches)


def copy_shard(
    folder: Path, number: int, source: int, images: Mapping[str, tuple[str, int]]
) -> None:
    """Write a shard with those examples of the shard ``source`` that ``images`` names.

    ``images`` gives the file and the label that each has now, by the file that it had then. The
    reasons of files that could not be encoded are copied too.
    """
    shard = read_shard(folder, source)
    rows = [(i, *images[f]) for i, f in enumerate(shard["file"].to_pylist()) if f in images]
    failures = shard_failures(folder, source)
    schema = _schema({images[file][0]: why for file, why in failures.items() if file in images})

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(rows), _ROWS_PER_BATCH):
            indices, files, labels = zip(*rows[start : start + _ROWS_PER_BATCH], strict=True)
            # Slices, because Arrow cannot take rows of 16-bit floats.
            taken = pa.concat_tables(shard.slice(i, 1) for i in indices).combine_chunks()
            columns = {name: taken[name].combine_chunks() for name in taken.column_names}
            columns |= {"file": pa.array(files), "label": pa.array(labels, pa.int64())}
            nulls = {field.name: pa.nulls(len(files), field.type) for field in schema}
            yield pa.record_batch(
                [{**nulls, **columns}[field.name] for field in schema], schema=schema
            )

    _write_batches(folder, number, schema, batches())


def _schema(failures: Mapping[str, str]) -> pa.Schema:
    return _SCHEMA.with_metadata({_FAILURES_KEY: json.dumps(dict(failures)).encode()})


def _write_batches(
    folder: Path, number: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> None:
    with (
        write_whole(shard_path(folder, number)) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_stream(file, schema) as stream,
    ):
        for batch in batches:
            stream.write_batch(batch)


def read_shard(folder: Path, number: int) -> pa.Table:
    """A memory-mapped shard. Raises ``LatentSetError`` for a damaged one."""
    path = shard_path(folder, number)
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            table = stream.read_all()
        # Arrow ends the process when it follows an offset beyond the data.
        table.validate(full=True)
        for name in set(table.column_names) & set(_SCHEMA.names):
            if table.schema.field(name).type != _SCHEMA.field(name).type:
                raise ValueError(f"{name} is of type {table.schema.field(name).type}")
        if missing := {"file", *_READ_COLUMNS} - set(table.column_names):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LatentSetError(
            path, f"not a readable Arrow file ({error}). Remove it, and run prepare again."
        ) from None
    return table


def _require_consistent(path: Path, parts: SetParts, table: pa.Table) -> None:
    """Raise ``LatentSetError`` where the numbers in shards do not fit each other or the set."""
    info = parts.info
    if any(table[name].null_count for name in _READ_COLUMNS):
        raise _damaged(path, "values are missing")
    labels = table["label"].to_numpy()
    ids = range(len(info.class_names)) if parts.class_ids is None else parts.class_ids
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(ids):
        raise _damaged(path, f"a label is none of the {len(ids)} classes")
    used = {ids[label] for label in np.unique(labels)}
    if used and not 0 <= min(used) <= max(used) < len(info.class_names):
        raise _damaged(path, f"a class id is none of the {len(info.class_names)} classes")
    grids = np.stack([table[name].to_numpy() for name in _GRID_COLUMNS], axis=1).astype(np.int64)
    if grids.size and not 1 <= grids.min() <= grids.max() <= _LONGEST_SIDE:
        raise _damaged(path, "a size is not a number of tokens")
    per_token = (1 + info.flips) * (1 + info.posterior) * info.channels * PATCH_SIZE**2
    for name, sides in (("resized", grids[:, :2]), ("cropped", grids[:, 2:])):
        lengths = pc.call_function("list_value_length", [table[name]]).to_numpy()
        whole = lengths == sides.prod(axis=1) * per_token
        if not (whole | ((lengths == 0) & (name == "cropped"))).all():
            raise _damaged(path, "latents are not of the size that is written beside them")


def _damaged(path: Path, reason: str) -> LatentSetError:
    return LatentSetError(path, f"its shards are damaged: {reason}. Run prepare again.")


def shard_failures(folder: Path, number: int) -> dict[str, str]:
    """The ``failures`` that ``write_shard`` was given."""
    return json.loads((read_shard(folder, number).schema.metadata or {})[_FAILURES_KEY])


def shard_digests(folder: Path, number: int) -> dict[str, bytes | None]:
    """The files of a shard, and what identifies the content that each had."""
    shard = read_shard(folder, number)
    files = shard["file"].to_pylist()
    if "digest" not in shard.column_names:  # written by an older version
        return dict.fromkeys(files)
    return dict(zip(files, shard["digest"].to_pylist(), strict=True))


def image_digest(source: Path | IO[bytes]) -> bytes:
    """16 bytes that identify the content of an image file."""
    digest = hashlib.blake2b(digest_size=16)
    with source.open("rb") if isinstance(source, Path) else source as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def count_examples(folder: Path, shards: Iterable[int]) -> int:
    return sum(len(read_shard(folder, number)) for number in shards)


def finish(
    folder: Path,
    info: LatentSetInfo,
    shards: int | Sequence[int],
    class_ids: Sequence[int] | None = None,
    history: Sequence[SetChange] = (),
) -> None:
    """Declare the set complete, with these shards or with the first of this number.

    ``class_ids`` is the class id of each label in the shards, where they are not the same.
    """
    numbers = range(shards) if isinstance(shards, int) else shards
    plain = list(numbers) == list(range(len(numbers))) and class_ids is None and not history
    content: dict[str, Any] = {
        "format": _FORMAT if plain else _CHANGED_FORMAT,
        "pictures": count_examples(folder, numbers),
        "shards": len(numbers) if plain else list(numbers),
    }
    if class_ids is not None:
        content["class_ids"] = list(class_ids)
    if history:
        content["history"] = [change.to_dict() for change in history]
    write_json(folder / INFO_FILE, {**content, **info.to_dict()})


def read_parts(path: Path) -> SetParts:
    """What a complete set says of itself. Raises ``LatentSetError`` for any other folder."""
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
        content: dict[str, Any] = parse_json(file.read_text(encoding="utf-8"))
        version = content.pop("format")
        count, shards = int(content.pop("pictures")), content.pop("shards")
        if version in (_FORMAT, _CHANGED_FORMAT):
            numbers = range(shards) if type(shards) is int else shards
            class_ids = content.pop("class_ids", None)
            history = tuple(map(SetChange.from_dict, content.pop("history", ())))
            if not 1 <= len(numbers) <= _MOST_SHARDS:
                raise ValueError(f"it names {len(numbers)} shards")
            return SetParts(
                LatentSetInfo.from_dict(content),
                count,
                tuple(map(index, numbers)),
                None if class_ids is None else tuple(map(index, class_ids)),
                history,
            )
    except (OverflowError, ValueError, KeyError, TypeError, AttributeError) as error:
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
        pa.array([example.digest for example in examples], pa.binary()),
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

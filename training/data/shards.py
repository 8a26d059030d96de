"""Shards: the Arrow files of the latent sets that ``prepare`` writes.

A shard is an Arrow stream. A row is an example. ``resized`` and ``cropped`` are fp16, of shape
(flips, moments, channels, height, width), flattened: flips are the plain image and, where the set
has them, the mirrored one; moments are the mean and, where the VAE has a posterior, the standard
deviation. They are in the model's scale (the VAE's times ``scale_factor``), where fp16 rounds by
less than 1/2000 of a value, a small part of that standard deviation. An example without a crop has
an empty ``cropped`` and the grid of the resized version. ``colours`` is null but for the few
examples to which the colours of previews are fitted: uint16 (3, height, width), sums over 8 × 8
pixels of the resized image. ``digest`` identifies the image file's content; shards of older
versions have none.

Beside each shard lies a small file with its rows but without their latents, and with the shard's
bytes and checksum: all that is needed to complete a set, and to follow its images. It is written
after the shard, and made again where it is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from comfyui_fitv2.config import PATCH_SIZE

from ..whole_files import write_whole
from .latent_set import LatentSetError

GRID_COLUMNS = ("rows", "columns", "cropped_rows", "cropped_columns")
_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("label", pa.int64()),
        *((name, pa.int32()) for name in GRID_COLUMNS),
        ("resized", pa.list_(pa.float16())),
        ("cropped", pa.list_(pa.float16())),
        ("colours", pa.list_(pa.uint16())),
        ("digest", pa.binary()),
    ]
)
_LATENTS = ("resized", "cropped")
READ_COLUMNS = ["file", "label", *GRID_COLUMNS, *_LATENTS]
"""Those that every shard has."""
_FAILURES_KEY, _SHARD_KEY = b"failures", b"shard"
_ROWS_PER_BATCH = 64


class FileFacts(NamedTuple):
    """What identifies the content of a file."""

    bytes: int
    checksum: str
    """32 hex digits, as ``checksum`` gives them."""


@dataclass(frozen=True, slots=True)
class ShardRows:
    """A shard without its latents."""

    table: pa.Table
    """The other columns; ``digest`` and ``colours`` are not in those of older versions."""
    failures: dict[str, str]
    """The reason for each file that could not be encoded."""
    shard: FileFacts

    @property
    def digests(self) -> dict[str, bytes | None]:
        """The files, and what identifies the content that each had."""
        files = self.table["file"].to_pylist()
        if "digest" not in self.table.column_names:
            return dict.fromkeys(files)
        return dict(zip(files, self.table["digest"].to_pylist(), strict=True))


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


def grids_of(table: pa.Table) -> np.ndarray:
    """(rows, 4): the columns ``GRID_COLUMNS`` of a shard."""
    return np.stack([table[name].to_numpy() for name in GRID_COLUMNS], axis=1)


def shard_name(number: int) -> str:
    return f"shard-{number:06d}.arrow"


def rows_name(number: int) -> str:
    """The name of the file beside a shard."""
    return f"rows-{number:06d}.arrow"


def shard_path(folder: Path, number: int) -> Path:
    return folder / shard_name(number)


def write_shard(
    folder: Path,
    number: int,
    examples: Sequence[EncodedExample],
    failures: Mapping[str, str] | None = None,
) -> None:
    """Write a shard atomically, and the file beside it.

    ``failures`` gives the reason for each file that could not be encoded; the schema carries them.
    """
    schema = _schema(failures or {})
    batches = (
        _batch(examples[start : start + _ROWS_PER_BATCH], schema)
        for start in range(0, len(examples), _ROWS_PER_BATCH)
    )
    _write_shard(folder, number, schema, batches)


def copy_shard(
    folder: Path, number: int, source: int, images: Mapping[str, tuple[str, int]]
) -> None:
    """Write a shard with those examples of the shard ``source`` that ``images`` names.

    ``images`` gives the file and the label that each has now, by the file that it had then. The
    reasons of files that could not be encoded are copied too.
    """
    shard = read_shard(folder, source)
    rows = [(i, *images[f]) for i, f in enumerate(shard["file"].to_pylist()) if f in images]
    failures = read_rows(folder, source).failures
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

    _write_shard(folder, number, schema, batches())


def _schema(failures: Mapping[str, str]) -> pa.Schema:
    return _SCHEMA.with_metadata({_FAILURES_KEY: json.dumps(dict(failures)).encode()})


def _write_shard(
    folder: Path, number: int, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> None:
    _write_stream(shard_path(folder, number), schema, batches)
    _write_rows(folder, number)


def _write_stream(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    with (
        write_whole(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_stream(file, schema) as stream,
    ):
        for batch in batches:
            stream.write_batch(batch)


def _write_rows(folder: Path, number: int) -> ShardRows:
    shard = read_shard(folder, number)
    facts = file_facts(shard_path(folder, number))
    failures = (shard.schema.metadata or {}).get(_FAILURES_KEY, b"{}")
    metadata = {_FAILURES_KEY: failures, _SHARD_KEY: json.dumps(facts).encode()}
    kept = [name for name in shard.column_names if name not in _LATENTS]
    table = shard.select(kept).combine_chunks().replace_schema_metadata(metadata)
    _write_stream(folder / rows_name(number), table.schema, table.to_batches())
    return ShardRows(table, json.loads(failures), facts)


def read_rows(folder: Path, number: int) -> ShardRows:
    """A shard without its latents, for which the shard need not be there.

    Raises ``LatentSetError`` where neither it nor the file beside it can be read.
    """
    try:
        with pa.ipc.open_stream((folder / rows_name(number)).read_bytes()) as stream:
            table = stream.read_all()
        table.validate(full=True)
        metadata = table.schema.metadata or {}
        size, checksum = json.loads(metadata[_SHARD_KEY])
        rows = ShardRows(
            table, json.loads(metadata[_FAILURES_KEY]), FileFacts(int(size), str(checksum))
        )
        path = shard_path(folder, number)
        if not path.exists() or path.stat().st_size == size:
            return rows
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        pass  # none yet, of another shard, or damaged
    return _write_rows(folder, number)


def read_shard(folder: Path, number: int) -> pa.Table:
    """A memory-mapped shard. Raises ``LatentSetError`` for a damaged one, or none."""
    path = shard_path(folder, number)
    try:
        return map_shard(path)
    except FileNotFoundError:
        raise LatentSetError(path, "no such file. Run prepare again.") from None


def map_shard(path: Path) -> pa.Table:
    """As ``read_shard``, by its path. Raises ``FileNotFoundError`` where there is none."""
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            table = stream.read_all()
        # Arrow ends the process when it follows an offset beyond the data.
        table.validate(full=True)
        for name in set(table.column_names) & set(_SCHEMA.names):
            if table.schema.field(name).type != _SCHEMA.field(name).type:
                raise ValueError(f"{name} is of type {table.schema.field(name).type}")
        if missing := set(READ_COLUMNS) - set(table.column_names):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LatentSetError(
            path, f"not a readable Arrow file ({error}). Remove it, and run prepare again."
        ) from None
    return table


def file_facts(path: Path) -> FileFacts:
    """The bytes and the checksum of a file, all of which is read."""
    with path.open("rb") as file:
        return FileFacts(checksum=_digest(file).hex(), bytes=file.tell())


def image_digest(source: Path | IO[bytes]) -> bytes:
    """16 bytes that identify the content of an image file."""
    with source.open("rb") if isinstance(source, Path) else source as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.digest()


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

"""The index of a latent set: class, size and name of every example, in one file.

It is an Arrow file of one batch, so that each column is one array, which is memory-mapped: opening
a set copies nothing, and the processes of a machine share the pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..whole_files import rename, write_whole
from .latent_set import LatentSetError
from .shards import GRID_COLUMNS, FileFacts, file_facts, grids_of

_SCHEMA = pa.schema(
    [
        ("label", pa.int32()),
        ("grid", pa.list_(pa.int32(), 4)),
        ("tokens", pa.list_(pa.int32(), 2)),
        ("file", pa.large_string()),
    ]
)
_LONGEST_SIDE = 1 << 20
"""In tokens."""
_MOST_TOKENS = (1 << 31) - 1
_CHUNK = 1 << 20
"""Examples that are looked at together, so that no copy of the whole is needed."""


@dataclass(frozen=True, slots=True)
class SetIndex:
    """What is known of all examples without their latents."""

    labels: np.ndarray
    """(n,) int32, as in the shards."""
    grids: np.ndarray
    """(n, 2, 2) int32: tokens as (rows, columns) of the resized and of the cropped version."""
    lengths: np.ndarray
    """(n, 2) int32: the products of ``grids``."""
    names: pa.Array | pa.ChunkedArray
    """The name of each example's image."""

    @classmethod
    def of_rows(cls, tables: Iterable[pa.Table]) -> SetIndex:
        """The index of shards; raises ``ValueError`` for values that no index can hold."""
        table = pa.concat_tables(
            [table.select(["file", "label", *GRID_COLUMNS]) for table in tables]
        )
        if any(table[name].null_count for name in table.column_names):
            raise ValueError("values are missing")
        grids = grids_of(table).astype(np.int32).reshape(-1, 2, 2)
        if grids.size and not 1 <= grids.min() <= grids.max() <= _LONGEST_SIDE:
            raise ValueError("a size is not a number of tokens")
        lengths = grids.astype(np.int64).prod(axis=-1)
        if lengths.size and lengths.max() > _MOST_TOKENS:
            raise ValueError("a size is not a number of tokens")
        labels = table["label"].to_numpy()
        if len(labels) and not 0 <= labels.min() <= labels.max() <= _MOST_TOKENS:
            raise ValueError("a label is not a class")
        names = pc.call_function("cast", [table["file"]], pc.CastOptions(pa.large_string()))
        return cls(labels.astype(np.int32), grids, lengths.astype(np.int32), names)

    @classmethod
    def map(cls, path: Path) -> SetIndex:
        """The index in a file. Raises ``LatentSetError`` for a damaged one, and
        ``FileNotFoundError`` where there is none."""
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as stream:
                if stream.schema != _SCHEMA or stream.num_record_batches != 1:
                    raise ValueError("it has other columns")
                batch = stream.get_batch(0)
            batch.validate(full=True)
            if any(column.null_count for column in batch.columns):
                raise ValueError("values are missing")
            labels, grids, tokens = (
                column.to_numpy()
                for column in (batch["label"], batch["grid"].values, batch["tokens"].values)
            )
            index = cls(labels, grids.reshape(-1, 2, 2), tokens.reshape(-1, 2), batch["file"])
            index._require_sizes()
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise LatentSetError(
                path, f"the index of the set is damaged ({error}). Run prepare again."
            ) from None
        return index

    def write(self, folder: Path) -> FileFacts:
        """Write it into the folder, atomically, under ``index_name``."""
        columns = [
            pa.array(self.labels, pa.int32()),
            pa.FixedSizeListArray.from_arrays(pa.array(self.grids.ravel()), 4),
            pa.FixedSizeListArray.from_arrays(pa.array(self.lengths.ravel()), 2),
            self.names.combine_chunks() if isinstance(self.names, pa.ChunkedArray) else self.names,
        ]
        batch = pa.record_batch(columns, schema=_SCHEMA)
        unnamed = folder / ".index"
        with (
            write_whole(unnamed) as temporary,
            pa.OSFile(str(temporary), "wb") as file,
            pa.ipc.new_file(file, _SCHEMA) as stream,
        ):
            stream.write_batch(batch)
        facts = file_facts(unnamed)
        rename(unnamed, folder / index_name(facts))
        return facts

    def _require_sizes(self) -> None:
        for start in range(0, len(self.grids), _CHUNK):
            grids = self.grids[start : start + _CHUNK].astype(np.int64)
            tokens = self.lengths[start : start + _CHUNK]
            if not 1 <= grids.min() <= grids.max() <= _LONGEST_SIDE:
                raise ValueError("a size is not a number of tokens")
            if not np.array_equal(grids.prod(axis=-1), tokens):
                raise ValueError("a number of tokens is not that of its size")


def index_name(facts: FileFacts) -> str:
    """The name of an index, so that the set before keeps its own."""
    return f"index-{facts.checksum[:12]}.arrow"

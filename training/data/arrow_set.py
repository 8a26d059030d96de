"""The latent sets that ``prepare`` writes: a folder of shards, here or at an address.

``latent_set.json`` is written last: a set without it is not complete. It lists the shards with
their checksums, and names the index, one file with the class and the size of every example. So a
set of millions opens without a look at its shards, and the processes of a machine share the index,
which is memory-mapped like the shards. Examples can be read in any order, which packing by length
and resuming anywhere need; a shard is opened when an example of it is asked for.

A set that changes never changes a shard: it gets new ones, and ``latent_set.json`` then lists the
numbers of those that count. A program that reads the old set keeps what it has opened. Sets of
older versions have no index; all of their shards are opened at the start.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from comfyui_fitv2.config import PATCH_SIZE

from .latent_set import INFO_FILE, LatentSet, LatentSetError, LatentSetInfo
from .set_files import SetFiles
from .set_index import SetIndex, index_name
from .set_parts import SetParts, read_parts
from .shards import READ_COLUMNS, FileFacts, grids_of, map_shard, shard_name

_MOST_OPEN = 8192
"""Shards that a process keeps open; Linux allows 65,530 memory maps."""
_TELL_SECONDS = 30
"""How often a process says which files of the cache it uses."""


class _OpenShard:
    """A shard that is memory-mapped from ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table = map_shard(path).select(READ_COLUMNS)
        self.used = True
        """Since the cache was told last."""
        self._batches = self.table.to_batches()
        self._starts = np.cumsum([0, *(len(batch) for batch in self._batches)]).tolist()

    def row(self, row: int) -> tuple[pa.RecordBatch, int]:
        """The batch with a row of the shard, and its place there."""
        self.used = True
        number = bisect_right(self._starts, row) - 1
        return self._batches[number], row - self._starts[number]

    def require_latents(self, info: LatentSetInfo) -> None:
        """Raise ``LatentSetError`` where latents are not of the size that is written beside."""
        per_token = (1 + info.flips) * (1 + info.posterior) * info.channels * PATCH_SIZE**2
        grids = grids_of(self.table)
        for name, sides in (("resized", grids[:, :2]), ("cropped", grids[:, 2:])):
            lengths = pc.call_function("list_value_length", [self.table[name]]).to_numpy()
            whole = lengths == sides.astype(np.int64).prod(axis=1) * per_token
            if not (whole | ((lengths == 0) & (name == "cropped"))).all():
                raise _damaged(self.path, "latents are not of the size that is written beside them")


class ArrowLatentSet(LatentSet):
    """A set that ``prepare`` wrote. Raises ``LatentSetError`` for a folder that is none."""

    def __init__(self, files: SetFiles, parts: SetParts | None = None) -> None:
        self._files = files
        self._parts = parts = parts or read_parts(files)
        self.info, self.history = parts.info, parts.history
        self._opened: OrderedDict[int, _OpenShard] = OrderedDict()
        self._told = time.monotonic()
        self._require_files()
        if parts.index is None:
            shards = [self._open(number) for number in range(len(parts.shards))]
            self._opened = OrderedDict(enumerate(shards))
            rows = [len(shard.table) for shard in shards]
            self._index = self._index_of(shards)
        else:
            rows = [shard.rows for shard in parts.listed]
            name = index_name(parts.index)
            self._index = self._open_index(name, parts.index)
        if len(self._index.labels) != parts.examples or sum(rows) != parts.examples:
            raise LatentSetError(
                files.place,
                f"its shards hold {sum(rows)} examples, not the {parts.examples} that "
                f"{INFO_FILE} counts. Run prepare again.",
            )
        self._starts = np.cumsum([0, *rows]).tolist()
        self.note = self._small_cache() if files.is_remote else ""
        self.class_ids, self.grids = self._class_ids(), self._index.grids

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process maps the same files again, though the set may have changed."""
        return ArrowLatentSet, (self._files, self._parts)

    @property
    def lengths(self) -> np.ndarray:
        return self._index.lengths

    def names(self) -> list[str]:
        return self._index.names.to_pylist()

    def fetch(self, indices: Iterable[int]) -> None:
        if self._files.is_remote:
            numbers = {bisect_right(self._starts, index) - 1 for index in indices}
            missing = sorted(numbers - self._opened.keys())
            self._files.fetch([self._listed(number) for number in missing])

    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        number = bisect_right(self._starts, index) - 1
        batch, row = self._shard(number).row(index - self._starts[number])
        cropped = cropped and len(batch["cropped"][row]) > 0
        stored = batch["cropped" if cropped else "resized"][row].values
        rows, columns = (side * PATCH_SIZE for side in self.grids[index, int(cropped)].tolist())
        views = stored.to_numpy().reshape(
            1 + self.info.flips, 1 + self.info.posterior, self.info.channels, rows, columns
        )
        view = torch.from_numpy(views[int(flipped and self.info.flips)].astype(np.float32))
        return view[0], view[1] if self.info.posterior else torch.zeros_like(view[0])

    def _shard(self, number: int) -> _OpenShard:
        """The shard at this place among those of the set."""
        self._tell_cache()
        shard = self._opened.get(number)
        if shard is None:
            shard = self._opened[number] = self._open(number)
            self._require_listed(number, shard)
            while len(self._opened) > _MOST_OPEN:
                self._opened.popitem(last=False)
        return shard

    def _open(self, number: int) -> _OpenShard:
        name, facts = self._listed(number)
        try:
            shard = self._files.open(name, facts, _OpenShard)
        except FileNotFoundError:
            raise LatentSetError(
                f"{self._files.place}/{name}", "no such file any more. Run prepare again."
            ) from None
        shard.require_latents(self.info)
        return shard

    def _open_index(self, name: str, facts: FileFacts) -> SetIndex:
        try:
            return self._files.open(name, facts, SetIndex.map)
        except FileNotFoundError:
            raise LatentSetError(
                f"{self._files.place}/{name}", "no such file. Copy the set again, all of it."
            ) from None

    def _listed(self, number: int) -> tuple[str, FileFacts | None]:
        parts = self._parts
        facts = parts.listed[number].facts if parts.listed else None
        return shard_name(parts.shards[number]), facts

    def _tell_cache(self) -> None:
        """Keep the shards that are in use in the cache, and close those that were dropped there:
        they take disk space as long as they are open."""
        if not self._files.is_remote or time.monotonic() < self._told + _TELL_SECONDS:
            return
        self._told = time.monotonic()
        for number, shard in list(self._opened.items()):
            if not (self._files.keep(shard.path) if shard.used else shard.path.exists()):
                del self._opened[number]
            shard.used = False

    def _small_cache(self) -> str:
        needed, room = sum(shard.bytes for shard in self._parts.listed), self._files.cache.room()
        if needed <= room:
            return ""
        return (
            f"the latent set has {needed / 1e9:.1f} GB and the cache of this machine has room for "
            f"{room / 1e9:.1f} GB ({self._files.cache.folder}). Examples are read in random order, "
            "so shards are fetched again and again: give it a larger disk (--cache.folder, "
            "--cache.gigabytes)"
        )

    def _require_files(self) -> None:
        """Raise ``LatentSetError`` where shards are missing in a folder, or of another size."""
        folder = self._files.place
        if not isinstance(folder, Path):
            return  # without a look at each object; what arrives is verified
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}
        names = [self._listed(number) for number in range(len(self._parts.shards))]
        if missing := [name for name, _ in names if name not in sizes]:
            raise LatentSetError(
                folder,
                f"{len(missing)} of its {len(names)} shards are missing, such as {missing[0]}. "
                "Copy it again, or run prepare again.",
            )
        for name, facts in names:
            if facts and sizes[name] != facts.bytes:
                raise LatentSetError(
                    folder / name,
                    f"it has {sizes[name]:,} bytes, not the {facts.bytes:,} of its set. Copy it "
                    "again; or remove it, and run prepare again.",
                )

    def _index_of(self, shards: Sequence[_OpenShard]) -> SetIndex:
        """The index of a set of an older version."""
        try:
            return SetIndex.of_rows(shard.table for shard in shards)
        except ValueError as error:
            raise _damaged(self._files.place, str(error)) from None

    def _require_listed(self, number: int, shard: _OpenShard) -> None:
        """Raise ``LatentSetError`` where a shard is not what the index says."""
        place = slice(self._starts[number], self._starts[number + 1])
        table, index = shard.table, self._index
        same = len(table) == place.stop - place.start and (
            np.array_equal(table["label"].to_numpy(), index.labels[place])
            and np.array_equal(grids_of(table), index.grids[place].reshape(-1, 4))
        )
        if not same:
            raise _damaged(shard.path, "its rows are not those of the set's index")

    def _class_ids(self) -> np.ndarray:
        """(n,) int32. Raises ``LatentSetError`` where a label has no class."""
        labels, names = self._index.labels, self.info.class_names
        ids = self._parts.class_ids
        count = len(names) if ids is None else len(ids)
        if len(labels) and not 0 <= labels.min() <= labels.max() < count:
            raise _damaged(self._files.place, f"a label is none of the {count} classes")
        if ids is None:
            return labels
        if not all(-1 <= class_id < len(names) for class_id in ids):
            raise _damaged(self._files.place, f"a class id is none of the {len(names)} classes")
        class_ids = np.array(ids, np.int32)[labels]
        if len(labels) and class_ids.min() < 0:
            raise _damaged(self._files.place, f"a class id is none of the {len(names)} classes")
        return class_ids


def _damaged(place: object, reason: str) -> LatentSetError:
    return LatentSetError(place, f"its shards are damaged: {reason}. Run prepare again.")

"""Images with the same bytes: found by size, then by both ends of the file, then by all of it."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from ..data.shards import image_digest
from ..data.sources import ImageSource
from .check import ByTask, Check, in_processes

_END = 4096
"""Bytes read at each end of a file."""


def find_duplicates(source: ImageSource, check: Check, workers: int | None) -> list[list[int]]:
    """Groups of two or more images of ``check``, by index, whose files hold the same bytes."""
    usable = check.usable.tolist()
    groups = _groups([i for i, used in enumerate(usable) if used], check.bytes.tolist())
    groups = _split(groups, _Ends, source, check.files, workers, "comparing ends")
    short = [group for group in groups if 0 <= check.bytes[group[0]] <= 2 * _END]
    long = [group for group in groups if not 0 <= check.bytes[group[0]] <= 2 * _END]
    return sorted(short + _split(long, _Whole, source, check.files, workers, "comparing files"))


def _split(
    groups: Sequence[Sequence[int]],
    kind: type[ByTask],
    source: ImageSource,
    files: Sequence[str],
    workers: int | None,
    what: str,
) -> list[list[int]]:
    """The parts of each group of which ``kind`` finds the same."""
    members = [index for group in groups for index in group]
    names = [files[index] for index in members]
    found = dict(
        zip(members, in_processes(kind(source, names), len(names), workers, what), strict=True)
    )
    return [
        part
        for group in groups
        for part in _groups([i for i in group if found[i] is not None], found)
    ]


def _groups(indices: Sequence[int], keys: Any) -> list[list[int]]:
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for index in indices:
        by_key[keys[index]].append(index)
    return [group for group in by_key.values() if len(group) > 1]


class _Ends(ByTask):
    def find(self, file: str) -> bytes | None:
        try:
            opened = self.source.source(file)
            with opened.open("rb") if isinstance(opened, Path) else opened as stream:
                head = stream.read(_END)
                length = stream.seek(0, io.SEEK_END)
                stream.seek(max(length - _END, min(_END, length)))
                return hashlib.blake2b(head + stream.read(_END), digest_size=16).digest()
        except OSError:
            return None


class _Whole(ByTask):
    def find(self, file: str) -> bytes | None:
        try:
            return image_digest(self.source.source(file))
        except OSError:
            return None

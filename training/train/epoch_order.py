"""The draws of an epoch as arrays; those of a large set are in a file that processes share.

All processes and data workers of a machine need the same order. Of millions of draws one of them
computes it, and the others map its file.
"""

from __future__ import annotations

import getpass
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.node_cache import NodeCache

SHARED_FROM = 250_000
"""Draws from which on an order is shared; fewer are computed in a moment."""
CHUNK = 1 << 16
"""Draws that are Python objects at the same time."""
_KEPT = 4
"""Orders that are kept on the disk: runs may be in different epochs."""


@dataclass(frozen=True, slots=True)
class EpochOrder:
    """The draws of an epoch in their order."""

    values: np.ndarray
    """(2 or 3, n) int32: the index of each draw; its tokens, negative where it is cropped; and, if
    examples are drawn several times, how often it was drawn before in the epoch."""

    def __iter__(self) -> Iterator[tuple[int, bool, int, int]]:
        """Index, whether it is cropped, how often it was drawn before, and tokens."""
        for start in range(0, self.values.shape[1], CHUNK):
            part = self.values[:, start : start + CHUNK]
            repeats = part[2].tolist() if len(part) > 2 else [0] * part.shape[1]
            columns = (part[0].tolist(), (part[1] < 0).tolist(), repeats, abs(part[1]).tolist())
            yield from zip(*columns, strict=True)


def shared_order(
    name: str, rows: int, count: int, fill: Callable[[np.ndarray], None]
) -> EpochOrder:
    """The order in the file ``name``, which ``fill`` writes (rows, count) int32 numbers to where no
    process has done so yet. It is in this process's own memory where no file can be made."""
    size = 4 * rows * count
    folder = Path(tempfile.gettempdir(), f"fitv2-orders-{_user()}")

    def make(path: Path) -> None:
        values: Any = np.memmap(path, np.int32, "w+", shape=(rows, count))
        fill(values)
        values.flush()

    def opened(path: Path) -> np.ndarray:
        return np.memmap(path, np.int32, "r", shape=(rows, count))

    with suppress(OSError):  # a full disk, or one that cannot be written to
        return EpochOrder(NodeCache(folder, _KEPT * size).open(name, size, make, opened))
    values = np.empty((rows, count), np.int32)
    fill(values)
    return EpochOrder(values)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return "user"

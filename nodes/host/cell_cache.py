"""Tensors that were made before, by all that decides them."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Hashable
from typing import Any

from torch import Tensor


class CellCache:
    """Tensors by key, of at most ``max_bytes`` together; those not used for longest go first.

    A tensor that an object made, such as a model, goes with it: when ComfyUI frees a model and its
    results, what was kept of them is freed, too.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._cells: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._of_makers: dict[int, set[Hashable]] = defaultdict(set)
        # Reentrant, because a maker may be collected, and call ``_forget``, while it is held.
        self._lock = threading.RLock()
        self.bytes_held = 0

    def get(self, key: Hashable) -> Tensor | None:
        """A copy of the tensor of a key, on the CPU; None where there is none."""
        with self._lock:
            found = self._cells.get(key)
            if found is None:
                return None
            self._cells.move_to_end(key)
            return found.clone()

    def put(self, key: Hashable, cell: Tensor, maker: Any = None) -> None:
        """Keep a copy of a tensor while ``maker`` lives, unless it is larger than all the room."""
        if _bytes(cell) > self._max_bytes:
            return
        with self._lock:
            self._drop(key)
            if maker is not None:
                if id(maker) not in self._of_makers:
                    weakref.finalize(maker, self._forget, id(maker)).atexit = False
                self._of_makers[id(maker)].add(key)
            # A copy of its own: a part of a larger tensor would keep all of that alive.
            self._cells[key] = cell.detach().to("cpu", copy=True)
            self.bytes_held += _bytes(cell)
            while self.bytes_held > self._max_bytes:
                self._drop(next(iter(self._cells)))

    def _forget(self, maker: int) -> None:
        with self._lock:
            for key in self._of_makers.pop(maker, ()):
                self._drop(key)

    def _drop(self, key: Hashable) -> None:
        dropped = self._cells.pop(key, None)
        if dropped is not None:
            self.bytes_held -= _bytes(dropped)
            for keys in list(self._of_makers.values()):  # a maker may be collected meanwhile
                keys.discard(key)

    def __len__(self) -> int:
        return len(self._cells)


def _bytes(cell: Tensor) -> int:
    return cell.numel() * cell.element_size()

"""Which examples an epoch holds, how often and in which order: only seed, epoch and set decide.

An epoch has as many draws as there are examples to train on. Without class balance each of them is
drawn once. With a balance b a class of n examples gets a share of the draws in proportion to
n^(1 − b): its own share at 0, as many draws as any other class at 1. Within a class every example
is drawn equally often, give or take one, and which of them get the extra draw changes from epoch to
epoch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from ..seeds import Purpose, epoch_generator
from .epoch_order import CHUNK, SHARED_FROM, EpochOrder, shared_order

Seen = tuple[int, int, bool, int]
"""An example as it is seen: epoch, index in the latent set, whether it is cropped, and how often
it was drawn before in this epoch."""


class Draws:
    """The draws of a latent set whose examples have these ``lengths`` and ``class_ids``.

    ``lengths`` (n, 2) holds the tokens of the resized and of the cropped version of every example,
    ``held_out`` the rising indices of those that are never drawn. ``balance`` is
    ``batch.class_balance``, and needs ``class_ids`` (n,).
    """

    def __init__(
        self,
        lengths: np.ndarray,
        class_ids: np.ndarray | None = None,
        held_out: np.ndarray | None = None,
        balance: float = 0.0,
    ) -> None:
        self.lengths = lengths
        self.held_out = np.empty(0, np.int64) if held_out is None else held_out
        self.balance = balance
        if balance:
            assert class_ids is not None
            _, classes = np.unique(class_ids[self.indices], return_inverse=True)
            self._classes = classes.astype(np.int32)

    def __len__(self) -> int:
        """Draws per epoch."""
        return len(self.lengths) - len(self.held_out)

    @property
    def indices(self) -> np.ndarray:
        """(draws,): the indices of the examples that are drawn. It is made anew each time: kept, it
        would take a gigabyte for 100 million."""
        if not len(self.held_out):
            return np.arange(len(self.lengths))
        drawn = np.ones(len(self.lengths), bool)
        drawn[self.held_out] = False
        return np.flatnonzero(drawn)

    @property
    def drawn_lengths(self) -> np.ndarray:
        """The rows of ``lengths`` of the examples that are drawn."""
        return self.lengths[self.indices] if len(self.held_out) else self.lengths

    @cached_property
    def shortest(self) -> int:
        """The tokens of the shortest version of an example that is drawn."""
        return min(int(part.min()) for part in self._parts())

    @cached_property
    def least_tokens(self) -> int:
        """The tokens of an epoch in which the shorter version of each example is drawn."""
        return sum(int(part.min(axis=1).sum()) for part in self._parts())

    @cached_property
    def identity(self) -> str:
        """What decides the draws, besides seed, epoch and crops, as 16 hex digits."""
        digest = hashlib.blake2b(f"{self.balance} {len(self.lengths)}".encode(), digest_size=8)
        parts = [self.lengths, self.held_out, *([self._classes] if self.balance else [])]
        for values in parts:
            for start in range(0, len(values), CHUNK):
                part = np.ascontiguousarray(values[start : start + CHUNK], np.int64)
                digest.update(part.data)
        return digest.hexdigest()

    def share(self) -> None:
        """Work out now what data workers, which are copies of this process, would each work out."""
        _ = self.shortest, self.least_tokens
        if len(self) >= SHARED_FROM:
            _ = self.identity

    def per_epoch(self) -> np.ndarray:
        """(n,) fp64: how often each example is drawn per epoch, on average."""
        times, indices = np.zeros(len(self.lengths)), self.indices
        times[indices] = 1.0
        if self.balance:
            sizes = np.bincount(self._classes)
            times[indices] = (self._shares() / sizes)[self._classes]
        return times

    def epoch(self, seed: int, epoch: int, crop: float) -> Iterator[tuple[Seen, int]]:
        """The draws of an epoch in their order, each with its tokens.

        ``crop`` is the probability of the cropped version.
        """
        order = self._order(seed, epoch, crop)
        return (((epoch, index, crop, times), length) for index, crop, times, length in order)

    def _order(self, seed: int, epoch: int, crop: float) -> EpochOrder:
        rows = 3 if self.balance else 2

        def fill(values: np.ndarray) -> None:
            drawn, repeats = self._drawn(seed, epoch)
            order = epoch_generator(seed, epoch, Purpose.ORDER).permutation(len(self))
            cropped = _chances(seed, epoch, len(self), crop)
            for start in range(0, len(self), CHUNK):
                place = slice(start, start + CHUNK)
                part = order[place]
                indices = part if drawn is None else drawn[part]
                tokens = self.lengths[indices, cropped[part].astype(int)]
                values[0, place] = indices
                values[1, place] = np.where(cropped[part], -tokens, tokens)
                if repeats is not None:
                    values[2, place] = repeats[part]

        if len(self) >= SHARED_FROM:
            name = f"{self.identity}-{seed}-{epoch}-{crop}"
            return shared_order(name, rows, len(self), fill)
        values = np.empty((rows, len(self)), np.int32)
        fill(values)
        return EpochOrder(values)

    def _parts(self) -> Iterator[np.ndarray]:
        """The rows of ``lengths`` that are drawn, some at a time; at least one is not empty."""
        for start in range(0, len(self.lengths), CHUNK):
            part = self.lengths[start : start + CHUNK]
            first, last = np.searchsorted(self.held_out, (start, start + CHUNK))
            part = np.delete(part, self.held_out[first:last] - start, axis=0)
            if len(part):
                yield part

    def _shares(self) -> np.ndarray:
        """(classes,) fp64: the draws of each class per epoch, on average."""
        weights = np.bincount(self._classes) ** (1 - self.balance)
        return len(self) * weights / weights.sum()

    def _drawn(self, seed: int, epoch: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The index of each draw, None where every example is drawn once; and how often that
        example was drawn before in the epoch, None where never."""
        if not self.balance:
            return (self.indices if len(self.held_out) else None), None
        random = epoch_generator(seed, epoch, Purpose.BALANCE)
        # Whole numbers of draws whose sum is exact: the shares, rounded by one common offset.
        ends = np.floor(np.cumsum(self._shares()) + random.random())
        ends[-1] = len(self)
        per_class = np.diff(ends, prepend=0.0).astype(int)
        sizes = np.bincount(self._classes)
        passes, extra = np.divmod(per_class, sizes)
        ranks = np.empty(len(self), dtype=int)
        shuffled = np.lexsort((random.random(len(self)), self._classes))
        ranks[shuffled] = np.arange(len(self)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        counts = passes[self._classes] + (ranks < extra[self._classes])
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.indices, counts), np.arange(len(firsts)) - firsts


def _chances(seed: int, epoch: int, count: int, crop: float) -> np.ndarray:
    """(count,) bool: which draws are cropped."""
    random = epoch_generator(seed, epoch, Purpose.CROP)
    sizes = (min(CHUNK, count - start) for start in range(0, count, CHUNK))
    return np.concatenate([random.random(size) < crop for size in sizes] or [np.empty(0, bool)])

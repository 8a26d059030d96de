"""Which examples an epoch holds, how often and in which order: only seed, epoch and set decide.

An epoch has as many draws as there are examples to train on. Without class balance each of them is
drawn once. With a balance b a class of n examples gets a share of the draws in proportion to
n^(1 − b): its own share at 0, as many draws as any other class at 1. Within a class every example
is drawn equally often, give or take one, and which of them get the extra draw changes from epoch to
epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import numpy as np

from ..seeds import Purpose, epoch_generator

Seen = tuple[int, int, bool, int]
"""An example as it is seen: epoch, index in the latent set, whether it is cropped, and how often
it was drawn before in this epoch."""


class Draws:
    """The draws of a latent set whose examples have these ``lengths`` and ``class_ids``.

    ``lengths`` (n, 2) holds the tokens of the resized and of the cropped version of every example,
    ``held_out`` the indices of those that are never drawn. ``balance`` is ``batch.class_balance``,
    and needs ``class_ids`` (n,).
    """

    def __init__(
        self,
        lengths: np.ndarray,
        class_ids: np.ndarray | None = None,
        held_out: np.ndarray | None = None,
        balance: float = 0.0,
    ) -> None:
        self.lengths = lengths
        self.indices = np.arange(len(lengths))
        if held_out is not None and len(held_out):
            self.indices = np.setdiff1d(self.indices, held_out, assume_unique=True)
        self.balance = balance
        if balance:
            assert class_ids is not None
            _, self._classes = np.unique(class_ids[self.indices], return_inverse=True)

    def __len__(self) -> int:
        """Draws per epoch."""
        return len(self.indices)

    @property
    def drawn_lengths(self) -> np.ndarray:
        """The rows of ``lengths`` of the examples that are drawn."""
        return self.lengths if len(self) == len(self.lengths) else self.lengths[self.indices]

    def per_epoch(self) -> np.ndarray:
        """(n,) fp64: how often each example is drawn per epoch, on average."""
        times = np.zeros(len(self.lengths))
        times[self.indices] = 1.0
        if self.balance:
            sizes = np.bincount(self._classes)
            times[self.indices] = (self._shares() / sizes)[self._classes]
        return times

    def epoch(self, seed: int, epoch: int, crop: float) -> Iterator[tuple[Seen, int]]:
        """The draws of an epoch in their order, each with its tokens.

        ``crop`` is the probability of the cropped version.
        """
        drawn, repeats = self._drawn(seed, epoch)
        order = epoch_generator(seed, epoch, Purpose.ORDER).permutation(len(drawn))
        cropped = epoch_generator(seed, epoch, Purpose.CROP).random(len(drawn)) < crop
        tokens = self.lengths[drawn, cropped.astype(int)]
        columns = zip(
            drawn[order].tolist(),
            cropped[order].tolist(),
            repeat(0) if repeats is None else repeats[order].tolist(),
            tokens[order].tolist(),
            strict=False,
        )
        return (((epoch, index, crop, times), length) for index, crop, times, length in columns)

    def _shares(self) -> np.ndarray:
        """(classes,) fp64: the draws of each class per epoch, on average."""
        weights = np.bincount(self._classes) ** (1 - self.balance)
        return len(self) * weights / weights.sum()

    def _drawn(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The index of each draw, and how often that example was drawn before in the epoch."""
        if not self.balance:
            return self.indices, None
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

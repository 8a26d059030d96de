"""Which examples share a micro-batch, and in which order: only seed, epoch and sizes decide.

Every process computes the same packs and takes its own from each step. So no process has to ask
another, and the number of processes changes who computes a pack but not what is in it. ``draws``
gives the examples of an epoch, and each draw is in one pack. Several epochs of a small set are
packed together, as a round, so that few packs stay partly empty: where an epoch ends, a pack may
continue with the next one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from math import ceil
from typing import TypeVar

import numpy as np

from .config import BatchConfig, ConfigError
from .draws import Draws, Seen

T = TypeVar("T")

_ROUND = 64
"""Minimum number of packs in a round."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the data: the pack that comes next."""

    round: int = 0
    pack: int = 0


@dataclass(frozen=True, slots=True)
class Pack:
    """A micro-batch of one process."""

    position: Position
    examples: tuple[Seen, ...]
    tokens: int
    slots: int
    """Tokens that there is room for: the budget, or, padded, examples × the longest."""
    pairs: int
    """Pairs of tokens that attend to each other: the sum of the squares of the examples' tokens."""


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Sums over the packs of one optimizer step, of all processes."""

    images: int
    tokens: int
    slots: int
    pairs: int
    next_position: Position
    """Position of the first pack of the next step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step of all processes."""

    packs: tuple[Pack, ...]
    totals: StepTotals


def check_lengths(lengths: np.ndarray, batch: BatchConfig) -> None:
    """Raise ``ConfigError`` where an example has more tokens than fit."""
    longest = int(lengths.max())
    if batch.packing == "packed" and longest > batch.token_budget:
        raise ConfigError(
            f"batch.token_budget is {batch.token_budget}, but the latent set holds an image of "
            f"{longest} tokens. Set it to {longest} or more."
        )


def steps_from(
    position: Position, draws: Draws, batch: BatchConfig, seed: int, packs_per_step: int
) -> Iterator[Step]:
    """The steps from ``position`` on, without end."""
    packs = _packs_from(position, draws, batch, seed)
    while True:
        taken = tuple(islice(packs, packs_per_step))
        last = taken[-1].position
        totals = StepTotals(
            images=sum(len(pack.examples) for pack in taken),
            tokens=sum(pack.tokens for pack in taken),
            slots=sum(pack.slots for pack in taken),
            pairs=sum(pack.pairs for pack in taken),
            next_position=replace(last, pack=last.pack + 1),
        )
        yield Step(taken, totals)


def round_packs(draws: Draws, batch: BatchConfig, seed: int, round: int) -> Iterator[Pack]:
    """All packs of a round. Every draw of its epochs is in one of them."""
    count = _epochs(draws.least_tokens, len(draws), batch)
    epochs = range(round * count, (round + 1) * count)
    examples = chain.from_iterable(draws.epoch(seed, epoch, batch.crop) for epoch in epochs)
    packed = batch.packing == "packed"
    if packed:
        groups = best_fit(examples, batch.token_budget, batch.open_packs, draws.shortest)
    else:
        groups = _in_order(examples, batch.images)
    for number, group in enumerate(groups):
        sizes = [length for _, length in group]
        yield Pack(
            Position(round, number),
            examples=tuple(example for example, _ in group),
            tokens=sum(sizes),
            slots=batch.token_budget if packed else len(group) * max(sizes),
            pairs=sum(size**2 for size in sizes),
        )


def epochs_per_round(lengths: np.ndarray, batch: BatchConfig) -> int:
    """The least number that makes a round; 1 for all but small sets."""
    return _epochs(int(lengths.min(axis=1).sum()), len(lengths), batch)


def _epochs(least_tokens: int, images: int, batch: BatchConfig) -> int:
    packed = batch.packing == "packed"
    filled = least_tokens / batch.token_budget if packed else images / batch.images
    return ceil(_ROUND / filled)


def next_round(
    position: Position, lengths: np.ndarray, before: BatchConfig, now: BatchConfig
) -> Position:
    """Where packs of ``now`` begin after ``position`` among packs of ``before``.

    ``position`` stays where the packs are the same. Otherwise it is the start of the first round of
    which no epoch has begun: the rest of the present round is left out.
    """
    deciding = ("packing", "token_budget", "images", "open_packs")
    if all(getattr(before, name) == getattr(now, name) for name in deciding):
        return position
    rounds = position.round + (position.pack > 0)
    epochs = rounds * epochs_per_round(lengths, before)
    return Position(ceil(epochs / epochs_per_round(lengths, now)))


def best_fit(
    items: Iterable[tuple[T, int]], budget: int, open_packs: int, smallest: int = 1
) -> Iterator[list[tuple[T, int]]]:
    """Pack (name, length) ``items`` in order: each into the open pack that it fills best.

    An item that fits into none opens a new one. A pack is closed when not even the ``smallest``
    item would fit, or when more than ``open_packs`` are open and it is the fullest.
    """
    opened: dict[int, list[tuple[T, int]]] = {}
    rooms: list[tuple[int, int]] = []  # (room left, number of the pack), ascending
    numbers = count()
    for item in items:
        place = bisect_left(rooms, (item[1], -1))
        room, number = rooms.pop(place) if place < len(rooms) else (budget, next(numbers))
        opened.setdefault(number, []).append(item)
        if room - item[1] < smallest:
            yield opened.pop(number)
            continue
        insort(rooms, (room - item[1], number))
        if len(rooms) > open_packs:
            yield opened.pop(rooms.pop(0)[1])
    yield from (opened[number] for _, number in rooms)


def _packs_from(position: Position, draws: Draws, batch: BatchConfig, seed: int) -> Iterator[Pack]:
    for round in count(position.round):
        first = position.pack if round == position.round else 0
        yield from islice(round_packs(draws, batch, seed, round), first, None)


def _in_order(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while group := list(islice(items, size)):
        yield group

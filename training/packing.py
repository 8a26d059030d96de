"""Which images share a micro-batch, and in which order: decided by the seed, the epoch and the sizes, and by nothing else.

Every process computes the same packs and takes its own from each step, so that none has to ask another, and the number of
processes changes who computes a pack but not what is in it. A step may hold packs of two epochs; each image is in one pack of each epoch.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np

from .config import BatchConfig, ConfigError

_ORDER, _CROP = 0, 1
"""What a random stream of (seed, epoch) is for."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the data: the pack that comes next."""

    epoch: int = 0
    pack: int = 0


@dataclass(frozen=True, slots=True)
class Pack:
    """A micro-batch of one process."""

    epoch: int
    number: int
    """Place among the packs of its epoch."""
    images: tuple[tuple[int, bool], ...]
    """Index in the latent set, and whether the cropped version is seen."""
    tokens: int
    slots: int
    """Tokens that there is room for: the budget, or, padded, images × the longest."""
    pairs: int
    """Pairs of tokens that attend to each other: the sum of the squares of the images' tokens."""


@dataclass(frozen=True, slots=True)
class StepTotals:
    """Sums over the packs of one optimizer step, of all processes."""

    images: int
    tokens: int
    slots: int
    pairs: int
    next_position: Position
    """Of the first pack of the next step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step of all processes."""

    packs: tuple[Pack, ...]
    totals: StepTotals


def check_lengths(lengths: np.ndarray, batch: BatchConfig) -> None:
    """Raise ``ConfigError`` where an image has more tokens than fit."""
    if batch.packing == "packed" and (longest := int(lengths.max())) > batch.token_budget:
        raise ConfigError(f"batch.token_budget is {batch.token_budget}, but the latent set holds an image of {longest} tokens. Set it to {longest} or more.")


def steps_from(position: Position, lengths: np.ndarray, batch: BatchConfig, seed: int, packs_per_step: int) -> Iterator[Step]:
    """The steps from ``position`` on, without end. ``lengths`` (n, 2): tokens of the resized and of the cropped version of every image."""
    packs = _packs_from(position, lengths, batch, seed)
    while True:
        taken = tuple(islice(packs, packs_per_step))
        images, tokens, slots, pairs = (sum(counts) for counts in zip(*((len(p.images), p.tokens, p.slots, p.pairs) for p in taken), strict=True))
        yield Step(taken, StepTotals(images, tokens, slots, pairs, Position(taken[-1].epoch, taken[-1].number + 1)))


def epoch_packs(lengths: np.ndarray, batch: BatchConfig, seed: int, epoch: int) -> Iterator[Pack]:
    """All packs of an epoch, every image in one of them."""
    order = _random(seed, epoch, _ORDER).permutation(len(lengths))
    cropped = _random(seed, epoch, _CROP).random(len(lengths)) < batch.crop
    seen = lengths[np.arange(len(lengths)), cropped.astype(int)]
    in_order = list(zip(order.tolist(), seen[order].tolist(), strict=True))
    if batch.packing == "packed":
        groups = best_fit(in_order, batch.token_budget, batch.open_packs, int(lengths.min()))
    else:
        groups = (in_order[start : start + batch.images] for start in range(0, len(in_order), batch.images))
    for number, group in enumerate(groups):
        sizes = [length for _, length in group]
        slots = batch.token_budget if batch.packing == "packed" else len(group) * max(sizes)
        yield Pack(epoch, number, tuple((index, bool(cropped[index])) for index, _ in group), sum(sizes), slots, sum(size**2 for size in sizes))


def best_fit(items: Iterable[tuple[int, int]], budget: int, open_packs: int, smallest: int = 1) -> Iterator[list[tuple[int, int]]]:
    """Pack (name, length) ``items`` as they come: each into the open pack that it leaves the least room in, else into a new one.

    A pack is closed when not even the ``smallest`` fits, or when more than ``open_packs`` are open and it is the fullest.
    """
    opened: dict[int, list[tuple[int, int]]] = {}
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


def _packs_from(position: Position, lengths: np.ndarray, batch: BatchConfig, seed: int) -> Iterator[Pack]:
    for epoch in count(position.epoch):
        yield from islice(epoch_packs(lengths, batch, seed, epoch), position.pack if epoch == position.epoch else 0, None)


def _random(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, purpose])

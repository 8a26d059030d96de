"""Which images share a micro-batch, and in which order: decided by the seed, the epoch and the sizes, and by nothing else.

Every process computes the same packs and takes its own from each step, so that none has to ask another, and the number of
processes changes who computes a pack but not what is in it. Each image is in one pack of each epoch. Epochs of a small set are packed
several in a row, a round, so that the packs left part empty are few: where an epoch ends a pack may go on with the next.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from math import ceil
from typing import TypeVar

import numpy as np

from ..seeds import Purpose, epoch_generator
from .config import BatchConfig, ConfigError

T = TypeVar("T")

_ROUND = 64
"""Packs that a round has at least."""

Image = tuple[int, int, bool]
"""Epoch, index in the latent set, and whether the cropped version is seen."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the data: the pack that comes next."""

    round: int = 0
    pack: int = 0


@dataclass(frozen=True, slots=True)
class Pack:
    """A micro-batch of one process."""

    position: Position
    images: tuple[Image, ...]
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
        raise ConfigError(
            f"batch.token_budget is {batch.token_budget}, but the latent set holds an image of {longest} tokens. Set it to {longest} or more."
        )


def steps_from(
    position: Position, lengths: np.ndarray, batch: BatchConfig, seed: int, packs_per_step: int
) -> Iterator[Step]:
    """The steps from ``position`` on, without end. ``lengths`` (n, 2): tokens of the resized and of the cropped version of every image."""
    packs = _packs_from(position, lengths, batch, seed)
    while True:
        taken = tuple(islice(packs, packs_per_step))
        images, tokens, slots, pairs = (
            sum(counts)
            for counts in zip(
                *((len(p.images), p.tokens, p.slots, p.pairs) for p in taken), strict=True
            )
        )
        yield Step(
            taken,
            StepTotals(
                images,
                tokens,
                slots,
                pairs,
                replace(last := taken[-1].position, pack=last.pack + 1),
            ),
        )


def round_packs(lengths: np.ndarray, batch: BatchConfig, seed: int, round: int) -> Iterator[Pack]:
    """All packs of a round, every image in one of them for each of its epochs."""
    epochs = epochs_per_round(lengths, batch)
    images = chain.from_iterable(
        _epoch(lengths, batch, seed, epoch) for epoch in range(round * epochs, (round + 1) * epochs)
    )
    packed = batch.packing == "packed"
    groups = (
        best_fit(images, batch.token_budget, batch.open_packs, int(lengths.min()))
        if packed
        else _in_order(images, batch.images)
    )
    for number, group in enumerate(groups):
        sizes = [length for _, length in group]
        slots = batch.token_budget if packed else len(group) * max(sizes)
        yield Pack(
            Position(round, number),
            tuple(image for image, _ in group),
            sum(sizes),
            slots,
            sum(size**2 for size in sizes),
        )


def epochs_per_round(lengths: np.ndarray, batch: BatchConfig) -> int:
    """As few as make a round; 1 for all but small sets."""
    filled = (
        lengths.min(axis=1).sum() / batch.token_budget
        if batch.packing == "packed"
        else len(lengths) / batch.images
    )
    return ceil(_ROUND / filled)


def best_fit(
    items: Iterable[tuple[T, int]], budget: int, open_packs: int, smallest: int = 1
) -> Iterator[list[tuple[T, int]]]:
    """Pack (name, length) ``items`` as they come: each into the open pack that it leaves the least room in, else into a new one.

    A pack is closed when not even the ``smallest`` fits, or when more than ``open_packs`` are open and it is the fullest.
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


def _packs_from(
    position: Position, lengths: np.ndarray, batch: BatchConfig, seed: int
) -> Iterator[Pack]:
    for round in count(position.round):
        yield from islice(
            round_packs(lengths, batch, seed, round),
            position.pack if round == position.round else 0,
            None,
        )


def _epoch(
    lengths: np.ndarray, batch: BatchConfig, seed: int, epoch: int
) -> Iterator[tuple[Image, int]]:
    """An epoch's images in their order, with their tokens."""
    order = epoch_generator(seed, epoch, Purpose.ORDER).permutation(len(lengths))
    cropped = epoch_generator(seed, epoch, Purpose.CROP).random(len(lengths)) < batch.crop
    seen = lengths[np.arange(len(lengths)), cropped.astype(int)]
    return (
        ((epoch, index, crop), length)
        for index, crop, length in zip(
            order.tolist(), cropped[order].tolist(), seen[order].tolist(), strict=True
        )
    )


def _in_order(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while group := list(islice(items, size)):
        yield group

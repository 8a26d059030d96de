"""Packs: whole examples, in an order that only seed, epoch and sizes decide."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from training.train.config import BatchConfig, ConfigError
from training.train.draws import Draws
from training.train.packing import (
    Pack,
    Position,
    best_fit,
    check_lengths,
    epochs_per_round,
    round_packs,
    steps_from,
)


@pytest.fixture(scope="module")
def lengths() -> np.ndarray:
    """Tokens of 300 images like ImageNet's at 256 pixels; a third has a cropped version."""
    random = np.random.default_rng(0)
    resized = np.where(
        random.random(300) < 0.8, random.integers(180, 257, 300), random.integers(16, 180, 300)
    )
    return np.stack([resized, np.where(random.random(300) < 0.33, 256, resized)], axis=1)


PACKED = BatchConfig(token_budget=2048)
PADDED = BatchConfig(packing="padded", images=16)


def seen_in(packs: Iterable[Pack]) -> list[tuple[int, int]]:
    """Epoch and index of each example."""
    return [(epoch, index) for pack in packs for epoch, index, *_ in pack.examples]


@pytest.mark.parametrize("batch", [PACKED, PADDED], ids=["packed", "padded"])
def test_every_example_is_seen_once_per_epoch(lengths: np.ndarray, batch: BatchConfig) -> None:
    for round in range(3):
        packs = list(round_packs(Draws(lengths), batch, 0, round))
        epochs = range(
            round * epochs_per_round(lengths, batch), (round + 1) * epochs_per_round(lengths, batch)
        )
        assert sorted(seen_in(packs)) == [
            (epoch, index) for epoch in epochs for index in range(300)
        ]
        assert [pack.position for pack in packs] == [
            Position(round, number) for number in range(len(packs))
        ]
        assert all(
            pack.tokens
            == sum(lengths[index, int(cropped)] for _, index, cropped, _ in pack.examples)
            <= pack.slots
            for pack in packs
        )


def test_epochs_follow_each_other(lengths: np.ndarray) -> None:
    """Except for examples that share the packs that are open where two epochs meet."""
    epochs = [
        epoch
        for epoch, _ in seen_in(round_packs(Draws(lengths), replace(PACKED, open_packs=2), 0, 0))
    ]
    assert len(set(epochs)) == epochs_per_round(lengths, PACKED) > 1
    assert max(abs(a - b) for a, b in zip(epochs, sorted(epochs), strict=True)) <= 1
    assert np.mean(np.array(epochs) == sorted(epochs)) > 0.9


@pytest.mark.parametrize("count", [300, 11])
def test_packs_fill_their_budget_however_small_the_set(lengths: np.ndarray, count: int) -> None:
    packs = list(round_packs(Draws(lengths[:count]), PACKED, 0, 0))
    assert {pack.slots for pack in packs} == {2048}
    assert sum(pack.tokens for pack in packs) / sum(pack.slots for pack in packs) > 0.95


def test_a_large_set_is_packed_epoch_by_epoch() -> None:
    assert epochs_per_round(np.full((1000, 2), 256), BatchConfig(token_budget=4000)) == 1
    assert epochs_per_round(np.full((1000, 2), 256), BatchConfig(packing="padded", images=15)) == 1


def test_rounds_and_seeds_are_packed_differently_and_reproducibly(lengths: np.ndarray) -> None:
    packs = {
        (seed, round): list(round_packs(Draws(lengths), PACKED, seed, round))
        for seed in (0, 1)
        for round in (0, 1)
    }
    assert len({tuple(index for _, index in seen_in(p)) for p in packs.values()}) == 4
    assert packs[1, 1] == list(round_packs(Draws(lengths), PACKED, 1, 1))


def test_an_example_goes_where_it_leaves_the_least_room() -> None:
    items = list(enumerate([6, 5, 7, 4, 3, 5]))
    packs = [[length for _, length in pack] for pack in best_fit(items, 10, 8)]
    assert packs == [[6, 4], [7, 3], [5, 5]]


def test_no_more_packs_are_open_than_asked_for() -> None:
    items = [(i, 6) for i in range(5)]
    packs = best_fit(iter(items), 10, open_packs=2)
    assert [next(packs) for _ in range(3)] == [[(0, 6)], [(1, 6)], [(2, 6)]]


def test_an_example_is_cropped_at_its_probability_with_any_packing(lengths: np.ndarray) -> None:
    crops = [
        {
            image[:2]: image[2]
            for pack in round_packs(Draws(lengths), batch, 0, 0)
            for image in pack.examples
        }
        for batch in (PACKED, PADDED)
    ]
    both = crops[0].keys() & crops[1].keys()
    assert len(both) > 500
    assert all(crops[0][image] == crops[1][image] for image in both)
    assert 0.4 < np.mean(list(crops[0].values())) < 0.6
    never = replace(PACKED, crop=0.0)
    assert not any(
        cropped
        for pack in round_packs(Draws(lengths), never, 0, 0)
        for _, _, cropped, _ in pack.examples
    )


def test_any_number_of_processes_shares_the_same_steps(lengths: np.ndarray) -> None:
    one = [step.packs for step in islice(steps_from(Position(), Draws(lengths), PACKED, 0, 4), 20)]
    shares = [
        [
            step.packs[process : process + 1]
            for step in islice(steps_from(Position(), Draws(lengths), PACKED, 0, 4), 20)
        ]
        for process in range(4)
    ]
    assert one == [sum(parts, ()) for parts in zip(*shares, strict=True)]


def test_a_step_may_hold_the_end_of_a_round_and_the_beginning_of_the_next(
    lengths: np.ndarray,
) -> None:
    count = len(list(round_packs(Draws(lengths), PACKED, 0, 0)))
    steps = list(islice(steps_from(Position(), Draws(lengths), PACKED, 0, count - 1), 2))
    assert [pack.position.round for pack in steps[1].packs[:2]] == [0, 1]
    assert len(steps[1].packs) == count - 1


def test_steps_continue_from_any_position(lengths: np.ndarray) -> None:
    steps = list(islice(steps_from(Position(), Draws(lengths), PACKED, 0, 3), 40))
    assert steps[-1].packs[-1].position.round > 0
    for i in (0, 7, 30):
        assert (
            list(islice(steps_from(steps[i].totals.next_position, Draws(lengths), PACKED, 0, 3), 5))
            == steps[i + 1 : i + 6]
        )


def test_totals_count_all_packs_of_a_step(lengths: np.ndarray) -> None:
    step = next(steps_from(Position(), Draws(lengths), PADDED, 0, 2))
    seen = [
        [int(lengths[index, int(cropped)]) for _, index, cropped, _ in pack.examples]
        for pack in step.packs
    ]
    assert step.totals.images == 32
    assert step.totals.tokens == sum(map(sum, seen))
    assert step.totals.slots == sum(16 * max(sizes) for sizes in seen)
    assert step.totals.pairs == sum(size**2 for sizes in seen for size in sizes)


def test_an_image_beyond_the_budget_is_refused_with_the_budget_it_needs(
    lengths: np.ndarray,
) -> None:
    with pytest.raises(ConfigError, match="Set it to 256 or more"):
        check_lengths(lengths, BatchConfig(token_budget=255))
    check_lengths(lengths, BatchConfig(token_budget=256))

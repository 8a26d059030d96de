"""Draws: which examples an epoch holds, how often, and that only seed and epoch decide."""

import numpy as np
import pytest

from training.seeds import example_generator
from training.train.draws import Draws

LENGTHS = np.array([[16, 8]] * 130)
CLASSES = np.repeat([0, 1, 2], [100, 28, 2])


def indices(draws: Draws, epoch: int = 0, seed: int = 0) -> list[int]:
    return [seen[1] for seen, _ in draws.epoch(seed, epoch, crop=0.5)]


def per_class(draws: Draws, epoch: int) -> list[int]:
    return np.bincount(CLASSES[indices(draws, epoch)], minlength=3).tolist()


def test_without_balance_every_example_is_drawn_once_but_the_held_out_ones() -> None:
    held_out = np.array([0, 5, 129])
    draws = Draws(LENGTHS, CLASSES, held_out)
    assert sorted(indices(draws)) == sorted({*range(130)} - {0, 5, 129})
    assert len(draws) == 127
    assert draws.per_epoch().sum() == 127


def test_held_out_examples_do_not_change_what_is_random_about_the_others() -> None:
    """They are seen in another order, but the numbers of an example are those of its index."""
    some = {seen[1]: seen for seen, _ in Draws(LENGTHS, CLASSES, np.array([3])).epoch(0, 4, 0.0)}
    everything = {seen[1]: seen for seen, _ in Draws(LENGTHS).epoch(0, 4, 0.0)}
    assert some == {index: seen for index, seen in everything.items() if index != 3}


@pytest.mark.parametrize(
    ("balance", "shares"), [(0.0, [100, 28, 2]), (0.5, [77.1, 40.8, 10.9]), (1.0, [43.3] * 3)]
)
def test_classes_get_their_share_of_the_draws(balance: float, shares: list[float]) -> None:
    draws = Draws(LENGTHS, CLASSES, balance=balance)
    counts = np.array([per_class(draws, epoch) for epoch in range(60)])
    assert set(counts.sum(axis=1)) == {130}
    assert counts.mean(axis=0) == pytest.approx(shares, rel=0.03)
    assert np.abs(counts - counts.mean(axis=0)).max() <= 1
    expected = [draws.per_epoch()[class_id == CLASSES].sum() for class_id in range(3)]
    assert counts.mean(axis=0) == pytest.approx(expected, abs=0.5)


def test_the_examples_of_a_class_are_drawn_equally_often_over_the_epochs() -> None:
    draws = Draws(LENGTHS, CLASSES, balance=1.0)
    counts = np.zeros(130)
    for epoch in range(200):
        of_epoch = np.bincount(indices(draws, epoch), minlength=130)
        for class_id in range(3):
            assert np.ptp(of_epoch[class_id == CLASSES]) <= 1
        counts += of_epoch
    assert counts / 200 == pytest.approx(draws.per_epoch(), rel=0.35)


def test_an_example_that_is_drawn_again_in_an_epoch_is_seen_differently() -> None:
    draws = Draws(LENGTHS, CLASSES, balance=1.0)
    seen = [(seen[1], seen[3]) for seen, _ in draws.epoch(0, 0, crop=0.5)]
    assert len(set(seen)) == len(seen)
    repeats = sorted(repeat for index, repeat in seen if index == 129)
    assert repeats == list(range(len(repeats)))
    assert len(repeats) > 20
    states = {example_generator(0, 0, 129, repeat).initial_seed() for repeat in repeats}
    assert len(states) == len(repeats)
    assert example_generator(0, 0, 129, 0).initial_seed() in states
    assert example_generator(0, 0, 129).initial_seed() in states


def test_epochs_and_seeds_differ_and_are_reproducible() -> None:
    draws = Draws(LENGTHS, CLASSES, balance=0.5)
    assert indices(draws, 3) == indices(draws, 3)
    assert indices(draws, 3) != indices(draws, 4)
    assert indices(draws, 3) != indices(draws, 3, seed=1)


def test_a_class_that_is_held_out_altogether_is_no_obstacle() -> None:
    draws = Draws(LENGTHS, CLASSES, np.array([128, 129]), balance=1.0)
    assert np.bincount(CLASSES[indices(draws)]).tolist() == [64, 64]

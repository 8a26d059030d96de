"""When a difference counts as one."""

import pytest

from training.scaling.spread import (
    HIGHER,
    LOWER,
    NO_DIFFERENCE,
    UNKNOWN,
    Difference,
    Ratio,
    Spread,
    difference,
)


def test_a_spread_is_a_mean_and_the_deviation_of_the_seeds() -> None:
    assert Spread((1.0, 2.0, 3.0)).text(2) == "2.00 ± 1.00"
    assert Spread((2.0,)).text(2) == "2.00"


def test_one_seed_says_nothing_about_a_difference() -> None:
    assert difference(Spread((1.0,)), Spread((5.0, 5.1))).verdict == UNKNOWN
    assert Ratio.of([3.0], [1.0]).verdict == UNKNOWN


def test_a_difference_counts_only_beyond_the_spread() -> None:
    before = Spread((1.0, 1.1, 0.9))
    assert difference(before, Spread((0.5, 0.6, 0.4))).verdict == LOWER
    assert difference(before, Spread((1.5, 1.6, 1.4))).verdict == HIGHER
    assert difference(before, Spread((0.95, 1.05, 0.85))).verdict == NO_DIFFERENCE
    assert difference(Spread((1.0, 1.0)), Spread((1.0, 1.0))).verdict == NO_DIFFERENCE


def test_the_interval_is_that_of_welch_or_wider() -> None:
    found = difference(Spread((1.0, 1.2, 0.9)), Spread((0.8, 0.85, 0.82)))
    low, high = -0.57622, 0.15622  # as SciPy's ttest_ind gives it, with 2.1 degrees of freedom
    assert found.mean == pytest.approx((low + high) / 2)
    assert found.margin is not None
    assert found.margin == pytest.approx((high - low) / 2, rel=0.05)
    assert found.margin >= (high - low) / 2


def test_a_ratio_counts_only_where_its_interval_leaves_out_one() -> None:
    assert Ratio.of([2.0, 2.1, 1.9], [1.0, 1.05]).verdict == HIGHER
    assert Ratio.of([0.5, 0.52, 0.48], [1.0, 1.05]).verdict == LOWER
    assert Ratio.of([0.8, 2.0, 1.1], [1.0, 1.05]).verdict == NO_DIFFERENCE
    assert Ratio.of([2.0, 8.0], [1.0, 4.0]).mean == pytest.approx(2.0)


def test_a_difference_shows_its_sign_and_margin() -> None:
    assert Difference(0.5, 0.25).text(2) == "+0.50 ± 0.25"

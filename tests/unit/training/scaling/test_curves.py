"""What is read off the curves of a study."""

import pytest
from support.study_curves import power_law, seeds

from training.scaling.curves import MEASURES, Model, crossing, exponent, models_of, speed


def test_twice_the_steps_to_a_loss_is_a_ratio_of_two() -> None:
    slow, fast = Model(seeds(2**0.5, 0.5, variant="FiT")), Model(seeds(1.0, 0.5))
    for measure in MEASURES:
        found = speed(slow, fast, measure)
        assert found is not None
        assert found.steps.mean == pytest.approx(2.0, rel=0.03)
        assert found.flops.mean == pytest.approx(2.0, rel=0.03)


def test_curves_without_a_loss_in_common_have_no_ratio() -> None:
    assert speed(Model([power_law(100.0, 0.1)]), Model([power_law(1.0, 0.1)])) is None


def test_the_larger_model_is_better_from_where_the_curves_cross() -> None:
    small, large = power_law(1.0, 0.1), power_law(2.0, 0.4, size="L")
    expected = 10 * 2 ** (1 / 0.3)  # 2·s^−0.4 = s^−0.1
    found = crossing(small, large)
    assert found is not None
    assert expected <= found <= 2 * expected
    assert crossing(large, small) is None


def test_the_exponent_of_a_power_law_is_found() -> None:
    assert exponent(power_law(3.0, 0.25)) == pytest.approx(0.25)


def test_seeds_of_one_model_belong_together() -> None:
    models = models_of([*seeds(1.0, 0.5), *seeds(2.0, 0.5, variant="FiT")])
    assert [(model.name, len(model.curves)) for model in models] == [("FiTv2 S", 3), ("FiT S", 3)]
    assert models[0].mean.points[0].loss == pytest.approx(1.0)
    assert models[0].mean.points[0].distance is None
    assert models[0].mean.points[-1].error == pytest.approx(0.1 * models[0].mean.points[-1].loss)
    assert models[1].end("loss", "larger").deviation == pytest.approx(0.01 * 4 * 128**-0.5)

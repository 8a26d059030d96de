"""What is read off the curves of a study."""

import pytest

from training.scaling.config import FAMILIES
from training.scaling.report import Curve, Point, crossing, exponent, markdown, plot, step_ratios


def power_law(
    scale: float, exponent: float, family: str = "FiTv2", size: str = "S", flops_per_step: int = 10
) -> Curve:
    steps = [2**i for i in range(8)]
    points = [Point(step, step * flops_per_step, scale * step**-exponent) for step in steps]
    return Curve(family, size, 1000, points)


def test_twice_the_steps_to_every_loss_is_a_ratio_of_two() -> None:
    ratios = step_ratios(slow=power_law(2**0.5, 0.5, "FiT"), fast=power_law(1.0, 0.5))
    assert [loss for loss, _ in ratios] == sorted((loss for loss, _ in ratios), reverse=True)
    assert [ratio for _, ratio in ratios] == pytest.approx([2.0] * len(ratios), rel=0.02)


def test_curves_without_a_loss_in_common_have_no_ratio() -> None:
    assert step_ratios(power_law(100.0, 0.1, "FiT"), power_law(1.0, 0.1)) == []
    assert "no loss in common" in markdown([power_law(1.0, 0.1), power_law(100.0, 0.1, "FiT")])


def test_the_larger_model_is_better_from_where_the_curves_cross() -> None:
    small, large = power_law(1.0, 0.1), power_law(2.0, 0.4, size="L")
    expected = 10 * 2 ** (1 / 0.3)  # 2·s^−0.4 = s^−0.1
    found = crossing(small, large)
    assert found is not None
    assert expected <= found <= 2 * expected
    assert crossing(large, small) is None
    assert "L has a lower loss than FiTv2 S from" in markdown([small, large])
    assert "FiTv2 L ends with a lower loss than FiTv2 S" in markdown([large, small])


def test_no_heading_claims_what_the_curves_do_not_show() -> None:
    slower = power_law(2.0, 0.5)
    text = markdown([slower, power_law(1.0, 0.5, "FiT")])
    assert "FiT S takes 0.2" in text
    assert "FiT S needs fewer steps" in text
    assert "FiTv2 S needs fewer steps" not in text
    assert "faster" not in text
    assert "better" not in text
    assert "one seed" in text


def test_the_exponent_of_a_power_law_is_found() -> None:
    assert exponent(power_law(3.0, 0.25)) == pytest.approx(0.25)


def test_every_family_has_its_line_in_both_panels() -> None:
    panels = plot([power_law(1.0, 0.1, family) for family in FAMILIES]).axes
    assert [len(panel.get_lines()) for panel in panels] == [3, 3]
    assert len({line.get_linestyle() for line in panels[0].get_lines()}) == 3

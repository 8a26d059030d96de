"""Headings that follow from the numbers."""

from support.study_curves import power_law, seeds

from training.scaling.config import ABLATION, CONVERGENCE, SHAPES, Comparison
from training.scaling.curves import Curve, models_of
from training.scaling.findings import sections
from training.scaling.plots import curves_plot, ends_plot

COMPARED = [
    Comparison(part=part, change="QK-norm", before="FiT", after="FiTv2")
    for part in (CONVERGENCE, ABLATION, SHAPES)
]


def headings(curves: list[Curve]) -> list[str]:
    lines = sections(models_of(curves), COMPARED)
    return [line.removeprefix("## ") for line in lines if line.startswith("## ")]


def test_what_the_paper_claims_is_said_where_the_numbers_show_it() -> None:
    curves = [*seeds(1.0, 0.5), *seeds(1.5, 0.5, variant="FiT")]
    speed, change, shapes, _ = headings(curves)
    assert "FiTv2 S needs fewer steps than FiT S to the same loss" in speed
    assert "FiTv2 S needs fewer steps than FiT S to the same distance" in speed
    assert change.endswith("lower: QK-norm")
    text = "\n".join(sections(models_of(curves), COMPARED))
    assert "By the distance of generated images, trained shapes: lower: QK-norm." in text
    assert shapes == "QK-norm, size S: loss on trained shapes lower; larger lower"


def test_the_opposite_is_said_where_the_numbers_show_that() -> None:
    speed, change, shapes, _ = headings([*seeds(1.5, 0.5), *seeds(1.0, 0.5, variant="FiT")])
    assert "FiT S needs fewer steps than FiTv2 S" in speed
    assert "FiTv2 S needs fewer steps" not in speed
    assert change.endswith("higher: QK-norm")
    assert shapes.endswith("trained shapes higher; larger higher")


def test_no_difference_beyond_the_spread_is_a_heading_too() -> None:
    wide = headings([*seeds(1.0, 0.5, 0.3), *seeds(1.05, 0.5, 0.3, variant="FiT")])
    for heading in wide[:3]:
        assert "no difference beyond the spread" in heading
        assert "lower" not in heading
        assert "fewer" not in heading


def test_one_seed_allows_no_claim() -> None:
    one = headings([power_law(1.0, 0.5), power_law(5.0, 0.5, "FiT")])
    for heading in one[:3]:
        assert "nothing can be said" in heading
        assert "lower" not in heading
        assert "fewer" not in heading


def test_a_ladder_is_compared_at_equal_compute() -> None:
    small, large = seeds(1.0, 0.1, size="S"), seeds(2.0, 0.4, size="L", parameters=2000)
    for curves in ([*small, *large], [*large, *small]):
        assert "FiTv2 L beats FiTv2 S by loss; FiTv2 L beats FiTv2 S by dist" in headings(curves)[0]
    close = [*seeds(1.0, 0.3, 0.2, size="S"), *seeds(1.0, 0.31, 0.2, size="L", parameters=2000)]
    assert headings(close)[0].endswith("no difference beyond the spread")


def test_curves_without_a_loss_in_common_are_said_to_have_none() -> None:
    curves = [*seeds(1.0, 0.1), *seeds(100.0, 0.1, variant="FiT")]
    text = "\n".join(sections(models_of(curves), COMPARED))
    assert "FiT S and FiTv2 S have no loss in common." in text
    assert "Speed of convergence: not comparable" in text


def test_plots_show_every_model_with_its_spread() -> None:
    models = models_of([*seeds(1.0, 0.5), *seeds(1.5, 0.5, variant="FiT")])
    panels = curves_plot(models).axes
    assert [len(panel.get_lines()) for panel in panels] == [2] * 6
    assert all(len(panel.collections) == 2 for panel in panels)
    assert len(ends_plot(models).axes) == 6
    assert not curves_plot(models_of([power_law(1.0, 0.5)])).axes[0].collections

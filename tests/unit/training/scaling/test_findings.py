"""Sentences that follow from the numbers."""

from itertools import chain

import pytest
from support.study_curves import power_law, seeds

from training.scaling.config import ABLATION, CONVERGENCE, SHAPES, Comparison
from training.scaling.curves import Curve, models_of
from training.scaling.findings import plotted, sections
from training.scaling.plots import curves_plot, ends_plot

COMPARED = [
    Comparison(part=part, change="QK-norm", before="FiT", after="FiTv2")
    for part in (CONVERGENCE, ABLATION, SHAPES)
]


def claims(curves: list[Curve]) -> list[list[str]]:
    """What each section says before its table."""
    text = "\n".join(sections(models_of(curves), COMPARED))
    _, *parts = f"\n{text}".split("\n## ")
    return [[li[2:] for li in part.splitlines() if li.startswith("- ")] for part in parts]


def test_what_the_paper_claims_is_said_where_the_numbers_show_it() -> None:
    speed, change, shapes, _ = claims([*seeds(1.0, 0.5), *seeds(1.5, 0.5, variant="FiT")])
    assert "FiTv2 S needs fewer steps than FiT S to the same loss." in speed
    assert "FiTv2 S needs fewer steps than FiT S to the same distance." in speed
    assert "Held-out loss, trained shapes: lower with QK-norm." in change
    assert "Distance of generated images, trained shapes: lower with QK-norm." in change
    assert "Held-out loss: lower on trained shapes, larger." in shapes


def test_the_opposite_is_said_where_the_numbers_show_that() -> None:
    speed, change, shapes, _ = claims([*seeds(1.5, 0.5), *seeds(1.0, 0.5, variant="FiT")])
    assert "FiT S needs fewer steps than FiTv2 S to the same loss." in speed
    assert not any("FiTv2 S needs fewer steps" in claim for claim in speed)
    assert "Held-out loss, trained shapes: higher with QK-norm." in change
    assert "Held-out loss: higher on trained shapes, larger." in shapes


def test_no_difference_beyond_the_spread_is_said_too() -> None:
    wide = claims([*seeds(1.0, 0.5, 0.3), *seeds(1.05, 0.5, 0.3, variant="FiT")])
    for claim in chain(*wide[:3]):
        assert "no difference beyond the spread" in claim
        assert "lower" not in claim
        assert "fewer" not in claim


def test_one_seed_allows_no_claim() -> None:
    one = claims([power_law(1.0, 0.5), power_law(5.0, 0.5, "FiT")])
    assert all(one[:3])
    for claim in chain(*one[:3]):
        assert "nothing can be said" in claim
        assert "lower" not in claim
        assert "fewer" not in claim


def test_a_ladder_is_compared_at_equal_compute() -> None:
    small, large = seeds(1.0, 0.1, size="S"), seeds(2.0, 0.4, size="L", parameters=2000)
    for curves in ([*small, *large], [*large, *small]):
        assert claims(curves)[0][:2] == [
            "FiTv2 L beats FiTv2 S by loss.",
            "FiTv2 L beats FiTv2 S by distance.",
        ]
    close = [*seeds(1.0, 0.3, 0.2, size="S"), *seeds(1.0, 0.31, 0.2, size="L", parameters=2000)]
    assert all(claim.endswith("no difference beyond the spread.") for claim in claims(close)[0])


def test_curves_without_a_loss_in_common_are_said_to_have_none() -> None:
    curves = [*seeds(1.0, 0.1), *seeds(100.0, 0.1, variant="FiT")]
    text = "\n".join(sections(models_of(curves), COMPARED))
    assert "FiT S and FiTv2 S have no loss in common." in text
    assert "Not comparable." in claims(curves)[0]


def test_plots_show_every_model_with_its_spread() -> None:
    models = models_of([*seeds(1.0, 0.5), *seeds(1.5, 0.5, variant="FiT")])
    panels = curves_plot(models, by_steps=True).axes
    assert [len(panel.get_lines()) for panel in panels] == [2] * 6
    assert all(len(panel.collections) == 2 for panel in panels)
    assert len(curves_plot(models).axes) == 3
    assert len(ends_plot(models).axes) == 6
    assert not curves_plot(models_of([power_law(1.0, 0.5)])).axes[0].collections


def test_a_section_has_a_plot_of_its_own_models() -> None:
    ladder = [*seeds(1.0, 0.5), *seeds(1.0, 0.4, size="L", parameters=2000)]
    models = models_of([*ladder, *seeds(1.5, 0.5, variant="FiT"), *seeds(2.0, 0.5, variant="A")])
    found = {
        part: [model.name for model in shown] for part, shown in plotted(models, COMPARED).items()
    }
    pair = ["FiTv2 S", "FiT S"]
    assert found == {
        "sizes": ["FiTv2 S", "FiTv2 L"],
        "convergence": pair,
        "ablation": pair,
        "shapes": pair,
    }
    text = "\n".join(sections(models, COMPARED))
    assert [part for part in found if f"({part}.png)" in text] == list(found)
    assert "options.png" not in text


def test_the_models_of_a_plot_are_found_without_writing_a_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> list[str]:
        raise AssertionError("a table was written")

    monkeypatch.setattr("training.scaling.findings.table", refuse)
    models = models_of([*seeds(1.0, 0.5), *seeds(1.0, 0.4, size="L", parameters=2000)])
    assert plotted(models, []) == {"sizes": models}


def test_sizes_without_compute_in_common_have_no_section() -> None:
    models = models_of(
        [power_law(1.0, 0.5), power_law(1.0, 0.5, size="L", flops_per_step=10**6, parameters=2000)]
    )
    assert plotted(models, []) == {}
    assert "equal compute" not in "\n".join(sections(models, []))


def test_a_difference_beyond_the_spread_is_bold() -> None:
    def row(curves: list[Curve]) -> str:
        lines = sections(models_of(curves), COMPARED)
        return next(line for line in lines if "→" in line and "| distance |" in line)

    assert row([*seeds(1.0, 0.5), *seeds(1.5, 0.5, variant="FiT")]).count("**") == 2
    assert row([*seeds(1.0, 0.5, 0.3), *seeds(1.05, 0.5, 0.3, variant="FiT")]).count("**") == 0

"""Sentences that follow from the numbers."""

from dataclasses import replace
from itertools import chain, combinations

import pytest
from matplotlib.colors import to_hex
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
    assert speed == ["FiTv2 S needs fewer steps than FiT S to the same loss, distance and error."]
    assert "Held-out loss, trained shapes: lower with QK-norm." in change
    assert "Distance of generated images, trained shapes: lower with QK-norm." in change
    assert "Held-out loss: lower on trained shapes, larger." in shapes


def test_the_opposite_is_said_where_the_numbers_show_that() -> None:
    speed, change, shapes, _ = claims([*seeds(1.5, 0.5), *seeds(1.0, 0.5, variant="FiT")])
    assert speed == ["FiT S needs fewer steps than FiTv2 S to the same loss, distance and error."]
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
        assert claims(curves)[0] == ["FiTv2 L beats FiTv2 S by loss, distance and error."]
    close = [*seeds(1.0, 0.3, 0.2, size="S"), *seeds(1.0, 0.31, 0.2, size="L", parameters=2000)]
    assert all(claim.endswith("no difference beyond the spread.") for claim in claims(close)[0])


def test_measures_with_different_verdicts_are_said_apart() -> None:
    small, large = seeds(1.0, 0.3, size="S"), seeds(1.0, 0.4, size="L", parameters=2000)
    wide = [
        replace(curve, points=[replace(p, error=0.1 + curve.seed) for p in curve.points])
        for curve in large
    ]
    assert claims([*small, *wide])[0] == [
        "FiTv2 L beats FiTv2 S by loss and distance.",
        "FiTv2 L against FiTv2 S by error: no difference beyond the spread.",
    ]


def test_changes_at_several_sizes_name_theirs_and_can_be_of_one_size() -> None:
    curves = [
        curve
        for size, parameters in (("S", 1000), ("L", 2000))
        for scale, variant in ((1.0, "FiTv2"), (1.5, "FiT"))
        for curve in seeds(scale, 0.5, variant=variant, size=size, parameters=parameters)
    ]
    said = "Held-out loss, trained shapes: lower with"
    assert f"{said} QK-norm at S, QK-norm at L." in claims(curves)[2]
    compared = [replace(COMPARED[1], sizes=["L"])]
    assert f"- {said} QK-norm." in sections(models_of(curves), compared)
    shown = plotted(models_of(curves), compared)["ablation"]
    assert [model.name for model in shown] == ["FiTv2 L", "FiT L"]


def test_curves_without_a_value_in_common_are_said_not_to_be_compared() -> None:
    curves = [*seeds(1.0, 0.1), *seeds(100.0, 0.1, variant="FiT")]
    text = "\n".join(sections(models_of(curves), COMPARED))
    assert (
        "Not compared, because one run begins below the lowest of another: FiT S and FiTv2 S by "
        "loss, distance and error."
    ) in text
    assert "Not comparable." in claims(curves)[0]


def test_plots_show_every_model_with_its_spread() -> None:
    models = models_of([*seeds(1.0, 0.5), *seeds(1.5, 0.5, variant="FiT")])
    panels = curves_plot(models, by_steps=True).axes
    assert [len(panel.get_lines()) for panel in panels] == [2] * 6
    assert all(len(panel.collections) == 2 for panel in panels)
    assert len(curves_plot(models).axes) == 3
    assert len(ends_plot(models).axes) == 6
    assert not curves_plot(models_of([power_law(1.0, 0.5)])).axes[0].collections


def test_a_plot_of_several_variants_and_sizes_gives_each_a_colour_or_a_line_style() -> None:
    models = models_of(
        [
            *(power_law(1.0, 0.5, name, size) for size in "SML" for name in ("FiTv2", "FiT")),
            power_law(1.0, 0.5, "A", "M"),
        ]
    )
    lines = curves_plot(models).axes[0].get_lines()
    for one, other in combinations(range(len(models)), 2):
        same_variant = models[one].variant == models[other].variant
        same_size = models[one].size == models[other].size
        colours = [to_hex(lines[number].get_color()) for number in (one, other)]
        styles = [lines[number].get_linestyle() for number in (one, other)]
        assert (colours[0] == colours[1]) == same_variant
        assert (styles[0] == styles[1]) == same_size


def test_a_variant_has_the_same_colour_in_plots_of_other_models() -> None:
    models = models_of([power_law(1.0, 0.5, name, "M") for name in ("FiTv2", "FiT", "A")])
    variants = [model.variant for model in models]
    all_lines = curves_plot(models, variants=variants).axes[0].get_lines()
    some_lines = curves_plot(models[1:], variants=variants).axes[0].get_lines()
    colours = [[line.get_color() for line in lines] for lines in (all_lines[1:], some_lines)]
    assert colours[0] == colours[1]


def test_models_that_differ_in_one_way_have_colours_of_their_own() -> None:
    for models in (
        models_of([power_law(1.0, 0.5, name) for name in ("FiTv2", "FiT", "A")]),
        models_of([power_law(1.0, 0.5, size=size) for size in "SML"]),
    ):
        lines = curves_plot(models).axes[0].get_lines()
        assert len({to_hex(line.get_color()) for line in lines}) == 3


def test_steps_that_are_close_have_one_label() -> None:
    short, long = power_law(1.0, 0.5), power_law(1.0, 0.5, size="L")
    last = replace(long.points[-1], step=140)
    models = models_of([short, replace(long, points=[*long.points[:-1], last])])
    figure = curves_plot(models, by_steps=True)
    labels = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert labels == ["1", "2", "4", "8", "16", "32", "64", "128"]


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

"""A report gives metrics their published names only if they are comparable with published ones."""

import pytest

from training.evaluate.metrics import INCEPTION_METRICS, RANDOM_FEATURE_METRICS
from training.evaluate.report import Evaluation, Reference, Row, markdown, plot


@pytest.mark.parametrize("published", [True, False])
def test_the_names_follow_the_features(published: bool) -> None:
    names = INCEPTION_METRICS if published else RANDOM_FEATURE_METRICS
    rows = [
        Row("32x32", 4, method, 8, dict.fromkeys(names, float(i)))
        for i, method in enumerate(("none", "ntk"))
    ]
    evaluation = Evaluation(
        checkpoint="mine.safetensors",
        features="some network",
        published=published,
        settings={"steps": 20, "solver": "ab2", "guidance_scale": 1.5, "seed": 0},
        reference="photos",
        references={"32x32": Reference(9, 2, {"broken.jpg": "OSError: truncated"}, 230)},
        rows=rows,
    )
    table = markdown(evaluation)
    arrows = ("↓", "↓", "↑", "↑", "↑")
    assert " | ".join(f"{n} {a}" for n, a in zip(names, arrows, strict=True)) in table
    assert ("NOT comparable" in table) is not published
    assert "9 images, 2 of them enlarged; unreadable files left out: 1" in table
    assert "Too few images for exact distances: 8, and 230 features." in table
    labels = [panel.get_ylabel() for panel in plot(evaluation).axes]
    assert [label.partition("\n")[0] for label in labels] == list(names)

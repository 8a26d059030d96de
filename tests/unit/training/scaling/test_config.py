"""What a study trains."""

from itertools import pairwise
from pathlib import Path

import pytest
from support.scaling_study import STUDY

from comfyui_fitv2 import FiT
from training.scaling.config import SCALING_CONFIGS, ScalingConfig, read_scaling_config
from training.train.config import ConfigError
from training.train.flops import TrainingCost
from training.train.packing import Position, StepTotals

SHIPPED = sorted(path.stem for path in SCALING_CONFIGS.glob("*.yaml"))


def flops_per_step(study: ScalingConfig, family: str, size: str) -> int:
    """Of a step with 6,400 tokens in 100 images."""
    config = study.run(family, size, Path("data"), Path("output")).model
    assert config is not None
    model = FiT(config.for_data(6, 4), device="meta")
    cost = TrainingCost.of(model, config.hidden_size, config.depth)
    return cost.flops(StepTotals(100, 6400, 6400, 409600, Position()))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_ladder_goes_from_cheap_to_dear(name: str) -> None:
    study = read_scaling_config(name)
    per_step = [flops_per_step(study, *run) for run in study.ladder if run[0] == "FiTv2"]
    assert all(large > 2 * small for small, large in pairwise(per_step))
    steps = [study.sizes[size].steps for family, size in study.ladder if family == "FiTv2"]
    totals = [flops * count for flops, count in zip(per_step, steps, strict=True)]
    assert totals == sorted(totals)


@pytest.mark.parametrize("name", SHIPPED)
def test_models_of_one_size_cost_about_the_same(name: str) -> None:
    study = read_scaling_config(name)
    for family, size in study.ladder:
        reference = flops_per_step(study, "FiTv2", size)
        assert flops_per_step(study, family, size) == pytest.approx(reference, rel=0.1), family


@pytest.mark.parametrize("name", SHIPPED)
def test_checkpoints_are_written_where_the_loss_is_measured_and_nowhere_else(name: str) -> None:
    study = read_scaling_config(name)
    for family, size in study.ladder:
        run = study.run(family, size, Path("data"), Path("output"))
        assert run.checkpoints.every == 0
        assert run.checkpoints.milestones[-1] == run.steps == study.sizes[size].steps
        assert len(run.checkpoints.milestones) > 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("FiT: [S]", "FiT: [XL]"), "XL"),
        (("FiT: [S]", "DiT: [S]"), "DiT"),
        (("measured_at: [1]", "measured_at: [2]"), "rising"),
        (("measured_at: [1]", "measured_at: []"), "rising"),
        (("held_out_times: 2", "held_out_time: 2"), "held_out_time"),
        (("held_out_times: 2", "held_out_times: 0"), "held_out_times"),
        (("hidden_size: 16", "hidden_size: wide"), "hidden_size"),
        (("hidden_size: 16, ", ""), "sizes.S.*hidden_size"),
        (("{training: 12, held_out: 6, image_size: 32}", "many"), "shapes.*many"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused_by_name(
    tmp_path: Path, changed: tuple[str, str], message: str
) -> None:
    assert changed[0] in STUDY
    (tmp_path / "study.yaml").write_text(STUDY.replace(*changed), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_scaling_config(str(tmp_path / "study.yaml"))


def test_an_unknown_study_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="default, quick"):
        read_scaling_config("qiuck")

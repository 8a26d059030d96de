"""What a study trains."""

from itertools import pairwise
from pathlib import Path

import pytest
from support.scaling_study import STUDY

from comfyui_fitv2 import FiT
from training.scaling.config import Run, ScalingConfig
from training.scaling.config_file import SCALING_CONFIGS, read_scaling_config
from training.train.config import ConfigError
from training.train.flops import TrainingCost
from training.train.packing import Position, StepTotals

SHIPPED = sorted(path.stem for path in SCALING_CONFIGS.glob("*.yaml"))


def flops_per_step(study: ScalingConfig, run: Run) -> int:
    """Of a step with 6,400 tokens in 100 images."""
    config = study.training_of(run, Path("data"), Path("output")).model
    assert config is not None
    model = FiT(config.for_data(6, 4), device="meta")
    cost = TrainingCost.of(model, config.hidden_size, config.depth)
    return cost.flops(StepTotals(100, 6400, 6400, 409600, Position()))


def first_seed(study: ScalingConfig) -> list[Run]:
    return [run for run in study.runs if run.seed == study.seeds[0]]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_ladder_goes_from_cheap_to_dear(name: str) -> None:
    study = read_scaling_config(name)
    ladder = [Run(variant="FiTv2", size=size, seed=0) for size in study.sizes]
    per_step = [flops_per_step(study, run) for run in ladder]
    assert all(large > 2 * small for small, large in pairwise(per_step))


@pytest.mark.parametrize("name", SHIPPED)
def test_models_of_one_size_cost_about_the_same(name: str) -> None:
    study = read_scaling_config(name)
    reference = {
        run.size: flops_per_step(study, run) for run in first_seed(study) if run.variant == "FiTv2"
    }
    for run in first_seed(study):
        expected = pytest.approx(reference[run.size], rel=0.13)
        assert flops_per_step(study, run) == expected, run.name


@pytest.mark.parametrize("name", SHIPPED)
def test_checkpoints_are_written_where_the_loss_is_measured_and_nowhere_else(name: str) -> None:
    study = read_scaling_config(name)
    for run in study.runs:
        training = study.training_of(run, Path("data"), Path("output"))
        assert training.checkpoints.every == 0
        assert training.checkpoints.milestones[-1] == training.steps
        assert training.steps == study.sizes[run.size].steps
        assert len(training.checkpoints.milestones) >= 3
        assert training.seed == run.seed


def test_the_rows_of_table_ii_differ_by_one_change_each() -> None:
    study = read_scaling_config("laptop")
    trainings = {
        run.variant: study.training_of(run, Path("data"), Path("output"))
        for run in first_seed(study)
        if run.size == "M"
    }
    features = {
        name: (
            training.model is not None and training.model.prediction,
            training.model is not None and training.model.qk_norm,
            training.model is not None and training.model.adaln_lora_dim > 0,
            training.batch.crop,
            # Version 1 draws uniform timesteps, whatever the configuration says.
            "uniform" if name == "FiT" else training.flow.timesteps,
        )
        for name, training in trainings.items()
    }
    assert features == {
        "FiT": ("epsilon", False, False, 0, "uniform"),
        "A": ("velocity", False, False, 0, "uniform"),
        "B": ("velocity", True, False, 0, "uniform"),
        "C": ("velocity", True, True, 0, "uniform"),
        "D": ("velocity", False, False, 0.5, "uniform"),
        "E": ("velocity", True, False, 0.5, "uniform"),
        "F": ("velocity", True, False, 0.5, "logit-normal"),
        "FiTv2": ("velocity", True, True, 0.5, "logit-normal"),
        "resized only": ("velocity", True, True, 0, "logit-normal"),
        "square crops only": ("velocity", True, True, 1, "logit-normal"),
    }
    for comparison in study.compared:
        if comparison.part == "ablation" and comparison.change != "all together":
            pair = features[comparison.before], features[comparison.after]
            assert sum(one != other for one, other in zip(*pair, strict=True)) == 1, comparison


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("FiT: {sizes: [S]", "FiT: {sizes: [XL]"), "XL"),
        (("architecture: FiT", "architecture: DiT"), "DiT"),
        (("part: convergence", "part: speed"), "speed"),
        (("before: FiT", "before: FiTv1"), "FiTv1"),
        (("after: FiTv2}", "after: FiTv2, sizes: [M]}"), "compared: size 'M'"),
        (("seeds: [0, 1]", "seeds: [1, 1]"), "seeds"),
        (("seeds: [0, 1]", "seeds: []"), "seeds"),
        (('sample: "1:1"', "sample: square"), "square"),
        (("image_size: 48}", "image_size: 48, least: 3}"), "from 3 to 2"),
        (("measured_at: [1], references", "measured_at: [7], references"), "7 is not"),
        (("per_class: 1", "per_class: 0"), "per_class"),
        (("measured_at: [1]", "measured_at: [2]"), "rising"),
        (("measured_at: [1]", "measured_at: []"), "rising"),
        (("held_out_times: 2", "held_out_time: 2"), "held_out_time"),
        (("held_out_times: 2", "held_out_times: 0"), "held_out_times"),
        (("hidden_size: 16", "hidden_size: wide"), "hidden_size"),
        (("hidden_size: 16, ", ""), "sizes.S.*hidden_size"),
        (("{count: 24, side: 48, image_size: 32}", "many"), "drawings.*many"),
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
    with pytest.raises(ConfigError, match="laptop, quick"):
        read_scaling_config("qiuck")


def test_every_model_of_the_laptop_study_has_the_same_compute() -> None:
    study = read_scaling_config("laptop")
    compute = {
        run.name: flops_per_step(study, run)
        * study.training_of(run, Path("data"), Path("output")).steps
        for run in first_seed(study)
    }
    assert max(compute.values()) < 1.1 * min(compute.values())


def test_the_first_comparison_is_trained_first_with_all_seeds() -> None:
    study = read_scaling_config("laptop")
    first = [(run.variant, run.size, run.seed) for run in study.runs[:18]]
    assert first == [
        (name, size, seed)
        for size in ("M", "S", "L")
        for name in ("FiTv2", "FiT")
        for seed in range(3)
    ]
    assert len(set(study.runs)) == len(study.runs) == 42

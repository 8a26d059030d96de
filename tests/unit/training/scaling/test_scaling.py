"""A ladder of models: what is trained, what all are measured by, and what is read off the curves."""

import json
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.latent_sets import make_latent_set
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig
from comfyui_fitv2.flow import ddpm_signal
from training.data.latent_set import LatentSet
from training.scaling import main
from training.scaling.config import FAMILIES, SCALING_CONFIGS, ScalingConfig, read_scaling_config
from training.scaling.held_out_loss import flow_times, held_out_loss, held_out_timesteps
from training.scaling.report import Curve, Point, crossing, exponent, markdown, plot, step_ratios
from training.scaling.shapes import RATIOS, SHAPES, draw_pictures
from training.train.config import ConfigError
from training.train.flops import TrainingCost
from training.train.packing import Position, StepTotals

CPU = torch.device("cpu")
STUDY = """
sizes:
  S: {hidden_size: 16, num_heads: 2, depth: 2, steps: 2}
families:
  FiTv2: [S]
  FiT: [S]
measured_at: [1]
pictures: {training: 12, held_out: 6, resolution: 32}
held_out_times: 2
training:
  precision: fp32
  batch: {token_budget: 16, workers: 0}
  samples: {every: 0}
  logging: {tracker: none, utilisation: false}
"""


def power_law(
    scale: float, exponent: float, family: str = "FiTv2", size: str = "S", flops_per_step: int = 10
) -> Curve:
    steps = [2**i for i in range(8)]
    return Curve(
        family,
        size,
        1000,
        [Point(step, step * flops_per_step, scale * step**-exponent) for step in steps],
    )


class Oracle(FiT):
    """Knows the data of every image, and answers with what it should."""

    def __init__(self, prediction: str, latents: LatentSet, times: int, error: float = 0.0) -> None:
        super().__init__(
            FiTConfig(
                hidden_size=16,
                depth=1,
                num_heads=2,
                num_classes=3,
                adaln_lora_dim=4,
                prediction=prediction,
            )
        )
        self.error = error
        self.answers = iter(
            [latents.moments(i, False, False)[0] for i in range(len(latents)) for _ in range(times)]
        )

    def forward_packed(
        self, latents: Sequence[Tensor], t: Tensor, y: Tensor, extrapolation: object = None
    ) -> list[Tensor]:
        out = []
        for x, time in zip(latents, t, strict=True):
            data = next(self.answers)
            if self.config.prediction == "velocity":
                out.append((data - x) / (1 - time) + self.error)
            else:
                signal = ddpm_signal()[int(time)]
                out.append((x - signal.sqrt() * data) / (1 - signal).sqrt() + self.error)
        return out


@pytest.fixture
def latents(tmp_path: Path) -> LatentSet:
    return LatentSet.open(make_latent_set(tmp_path / "latents"))


@pytest.mark.parametrize("prediction", ["velocity", "epsilon"])
def test_a_model_that_knows_the_answer_has_no_held_out_loss_whatever_it_predicts(
    latents: LatentSet, prediction: str
) -> None:
    assert held_out_loss(Oracle(prediction, latents, 4), latents, [0, 1, 2], 4, CPU) < 1e-8


def test_an_error_of_the_noise_counts_as_the_velocity_it_stands_for(latents: LatentSet) -> None:
    times = flow_times()[held_out_timesteps(4)]
    loss = held_out_loss(Oracle("epsilon", latents, 4, error=0.1), latents, [0, 1, 2], 4, CPU)
    assert loss == pytest.approx(float((0.1 / times).square().mean()), rel=1e-4)
    assert held_out_loss(
        Oracle("velocity", latents, 4, error=0.1), latents, [0, 1, 2], 4, CPU
    ) == pytest.approx(0.01, rel=1e-4)


def test_the_held_out_loss_is_the_same_number_every_time(latents: LatentSet) -> None:
    model = FiT(FiTConfig(hidden_size=16, depth=1, num_heads=2, num_classes=3, adaln_lora_dim=4))
    losses = [held_out_loss(model, latents, [0, 1, 2], 2, CPU) for _ in range(2)]
    assert losses[0] == losses[1]
    expected = [latents.moments(i, False, False)[0] for i in range(len(latents))]
    assert losses[0] == pytest.approx(
        1 + float(np.mean([float(d.square().mean()) for d in expected])), rel=0.15
    )  # an untrained model answers 0


def test_held_out_times_are_middles_of_equal_parts_of_the_logit_normal() -> None:
    times = flow_times()[held_out_timesteps(9)]
    assert times[4] == pytest.approx(0.5, abs=2e-3)
    torch.testing.assert_close(times, 1 - times.flip(0), atol=4e-3, rtol=0)
    share = torch.randn(20000).sigmoid()[:, None] < times
    torch.testing.assert_close(
        share.float().mean(0), (torch.arange(9) + 0.5) / 9, atol=0.02, rtol=0
    )


def test_twice_the_steps_to_every_loss_is_a_ratio_of_two() -> None:
    ratios = step_ratios(slow=power_law(2**0.5, 0.5, "FiT"), fast=power_law(1.0, 0.5))
    assert [loss for loss, _ in ratios] == sorted((loss for loss, _ in ratios), reverse=True)
    assert [ratio for _, ratio in ratios] == pytest.approx([2.0] * len(ratios), rel=0.02)


def test_curves_without_a_loss_in_common_have_no_ratio() -> None:
    assert step_ratios(power_law(100.0, 0.1, "FiT"), power_law(1.0, 0.1)) == []
    assert "no loss in common" in markdown([power_law(1.0, 0.1), power_law(100.0, 0.1, "FiT")])


def test_the_larger_model_is_better_from_where_the_curves_cross_on() -> None:
    small, large = power_law(1.0, 0.1), power_law(2.0, 0.4, size="L")
    expected = 10 * 2 ** (1 / 0.3)  # 2·s^−0.4 = s^−0.1
    found = crossing(small, large)
    assert found is not None
    assert expected <= found <= 2 * expected
    assert crossing(large, small) is None
    assert "L has a lower loss than FiTv2 S from" in markdown([small, large])
    assert "not seen" in markdown([large, small])


def test_the_exponent_of_a_power_law_is_found() -> None:
    assert exponent(power_law(3.0, 0.25)) == pytest.approx(0.25)


def test_every_family_has_its_line_in_both_panels() -> None:
    panels = plot([power_law(1.0, 0.1, family) for family in FAMILIES]).axes
    assert [len(panel.get_lines()) for panel in panels] == [3, 3]
    assert len({line.get_linestyle() for line in panels[0].get_lines()}) == 3


@pytest.mark.parametrize("path", sorted(SCALING_CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_studies_are_valid_and_compare_models_of_about_the_same_compute(path: Path) -> None:
    study = read_scaling_config(path.stem)
    costs = {}
    for family, size in study.ladder:
        run = study.run(family, size, Path("data"), Path("output"))
        assert run.checkpoints.milestones[-1] == run.steps == study.sizes[size].steps
        assert len(run.checkpoints.milestones) > 3
        assert run.model is not None
        model = FiT(run.model.fit(6, 4), device="meta")
        costs[family, size] = TrainingCost.of(model, run.model.hidden_size, run.model.depth).flops(
            StepTotals(100, 6400, 6400, 409600, Position())
        )
    for (family, size), cost in costs.items():
        assert cost == pytest.approx(costs["FiTv2", size], rel=0.1), family
    ladder = [cost for (family, _), cost in costs.items() if family == "FiTv2"]
    assert all(large > 2 * small for small, large in pairwise(ladder))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("FiT: [S]", "FiT: [XL]"), "XL"),
        (("FiT: [S]", "DiT: [S]"), "DiT"),
        (("measured_at: [1]", "measured_at: [2]"), "rising"),
        (("held_out_times: 2", "held_out_time: 2"), "held_out_time"),
        (("hidden_size: 16", "hidden_size: wide"), "hidden_size"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused_by_name(
    tmp_path: Path, changed: tuple[str, str], message: str
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY.replace(*changed), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_scaling_config(str(tmp_path / "study.yaml"))


def test_a_wrong_key_for_the_trainer_ends_the_study_before_its_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("precision: fp32", "precison: fp32"), encoding="utf-8"
    )
    assert (
        main(["--config", str(tmp_path / "study.yaml"), "--output", str(tmp_path / "study")]) == 1
    )
    printed = capsys.readouterr().err
    assert "precision" in printed
    assert printed.startswith("error: ")
    assert not (tmp_path / "study").exists()


def test_data_to_train_on_need_data_to_measure_on(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["--quick", "--output", str(tmp_path / "study"), "--data", "latents"]) == 1
    assert "--held-out" in capsys.readouterr().err


def test_a_study_is_trained_once_measured_once_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    arguments = ["--config", str(tmp_path / "study.yaml"), "--output", str(tmp_path / "study")]
    assert main(arguments) == 0
    curves = json.loads((tmp_path / "study" / "scaling.json").read_text(encoding="utf-8"))["curves"]
    assert [
        (curve["family"], [point["step"] for point in curve["points"]]) for curve in curves
    ] == [("FiTv2", [1, 2]), ("FiT", [1, 2])]
    assert all(
        np.isfinite(point["loss"]) and point["flops"] > 0
        for curve in curves
        for point in curve["points"]
    )
    with Image.open(tmp_path / "study" / "scaling.png") as plotted:
        assert np.asarray(plotted.convert("RGB")).std() > 5
    first = capsys.readouterr().out.partition("| model |")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("worked twice")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("training.scaling.held_out_loss", refuse)
    assert main(arguments) == 0
    assert capsys.readouterr().out == "".join(first[1:])


def test_drawn_pictures_are_decided_by_the_seed_and_of_all_classes_and_shapes(
    tmp_path: Path,
) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        draw_pictures(tmp_path / name, 30, 64, seed)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    content = {
        name: [(tmp_path / name / file).read_bytes() for file in files]
        for name in ("one", "again", "other")
    }
    assert content["one"] == content["again"]
    assert not set(content["one"]) & set(content["other"])
    assert {file.parts[0] for file in files} == set(SHAPES)
    assert len({Image.open(tmp_path / "one" / file).size for file in files}) == len(RATIOS)


def test_the_ladder_goes_from_cheap_to_dear() -> None:
    assert isinstance(study := read_scaling_config("default"), ScalingConfig)
    assert [size for _, size in study.ladder] == sorted(
        (size for _, size in study.ladder), key=list(study.sizes).index
    )

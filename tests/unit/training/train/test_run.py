"""A whole run: what it leaves, and what it refuses before it writes anything."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from support.latent_sets import make_latent_set
from support.run_folders import SMALL
from support.training_runs import (
    arguments,
    finish,
    identical,
    small_config,
    start_training,
    weights,
)

from comfyui_fitv2 import load_checkpoint
from training.train import main, train
from training.train.checkpoints.reader import checkpoints, latest, read_summary
from training.train.config import ConfigError
from training.train.sample_sheet import SampleSheet

NAMES = ["class0", "class1", "class2"]


def content_of(file: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Metadata, which safetensors writes in any order, and the bytes of each tensor."""
    with safe_open(file, "np") as opened:
        tensors = {key: opened.get_tensor(key).tobytes() for key in opened.keys()}  # noqa: SIM118
        return dict(opened.metadata() or {}), tensors


def test_a_run_leaves_checkpoints_that_load_sample_sheets_and_logs(
    data: Path, tmp_path: Path
) -> None:
    samples = ["--samples.every=3", "--samples.steps=2", "--samples.classes=2"]
    logging = ["--logging.tracker=tensorboard", "--logging.every=2", "--logging.utilisation"]
    sizes = ["--samples.sizes", "1:1", "2:1", "96x32"]
    config = small_config(data, tmp_path, "--checkpoints.every=4", *samples, *sizes, *logging)
    assert train(config) == 0
    summary = read_summary(latest(tmp_path))
    assert summary.step == 6
    assert summary.config == config.to_dict()
    assert summary.loss is not None
    assert 0 < summary.loss < 10
    for file in ("model", "ema-0.99", "ema-0.9"):
        loaded = load_checkpoint(latest(tmp_path) / f"{file}.safetensors")
        expected = replace(SMALL, train_length=6)  # the latent set's 96 pixels
        assert (loaded.config, loaded.class_names) == (expected, NAMES)
        assert loaded.metadata.training == {"step": 6, "vae": "random"}
    sheets = sorted((tmp_path / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["step-00000003.png", "step-00000006.png"]
    assert Image.open(sheets[0]).size == Image.open(sheets[1]).size
    assert list((tmp_path / "logs").rglob("events.*"))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8")) == config.to_dict()


def test_the_end_says_how_it_went_and_what_comes_next(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a run"
    assert train(small_config(data, run)) == 0
    said = capsys.readouterr().out.splitlines()
    loss = read_summary(latest(run)).loss
    assert f"trained 6 steps: loss {loss:.4f}" in said
    assert f"checkpoint: {latest(run)}" in said
    assert said[-1].endswith(f"training.export --run '{run}' --output 'a run.safetensors'")


@pytest.mark.parametrize("steps", [4, 6])
def test_a_run_without_a_step_left_says_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    assert train(small_config(data, tmp_path)) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")}
    capsys.readouterr()
    assert train(small_config(data, tmp_path, "--resume=latest", f"--steps={steps}")) == 0
    said = capsys.readouterr().out
    assert f"is at step 6, and --steps is {steps}" in said
    assert "more --steps" in said
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "checkpoints").rglob("*")}


def test_the_bar_has_figures_in_plain_words_from_the_first_step_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--steps=3", "--logging.every=100", "--logging.utilisation"]
    assert train(small_config(data, tmp_path, *options)) == 0
    shown = capsys.readouterr().err.split("\r")
    first = next(line for line in shown if " 1/3 " in line and "loss" in line)
    for words in ("epoch 0.1", "tokens/s", "images/s", "learning rate", "% of peak speed"):
        assert words in first
    assert "fill" not in first
    assert "MFU" not in first


@pytest.mark.processes
def test_a_run_starts_without_warnings(data: Path, tmp_path: Path) -> None:
    options = arguments(data, tmp_path / "run", "--steps=1", "--logging.tracker=tensorboard")
    said = finish(start_training(options))
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip()]
    assert lines[-1].startswith("export it")
    assert "warning" not in said.replace("Warning", "warning")


def test_the_configuration_in_the_folder_of_a_run_repeats_it(data: Path, tmp_path: Path) -> None:
    options = ["--held_out.share=0.2", "--batch.class_balance=0.5", "--checkpoints.milestones", "2"]
    assert train(small_config(data, tmp_path / "first", *options)) == 0
    again = ["--config", str(tmp_path / "first" / "config.yaml"), "--output"]
    assert main([*again, str(tmp_path / "second")]) == 0
    assert main(again[:2]) == 1  # the run's own folder is not trained into again
    for path in checkpoints(tmp_path / "first"):
        for file in path.glob("*.safetensors"):
            other = tmp_path / "second" / file.relative_to(tmp_path / "first")
            assert content_of(file) == content_of(other)


def test_class_balance_resumes_bit_for_bit(data: Path, tmp_path: Path) -> None:
    uneven = make_latent_set(tmp_path / "uneven", per_class=9, classes=3)
    options = ["--batch.class_balance=1", "--steps=8"]
    train(small_config(uneven, tmp_path / "whole", *options))
    train(small_config(uneven, tmp_path / "parts", *options, "--steps=3"))
    train(small_config(uneven, tmp_path / "parts", *options, "--resume=latest"))
    assert identical(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    plain = small_config(uneven, tmp_path / "plain", "--steps=8")
    train(plain)
    with pytest.raises(ConfigError, match="class_balance"):
        train(small_config(uneven, tmp_path / "plain", *options, "--resume=latest"))


def test_learning_lowers_the_loss(data: Path, tmp_path: Path) -> None:
    losses = []
    for steps in (5, 120):
        train(small_config(data, tmp_path / str(steps), f"--steps={steps}"))
        losses.append(read_summary(latest(tmp_path / str(steps))).loss or 0.0)
    assert losses[1] < 0.8 * losses[0]


def test_a_checkpoint_does_not_depend_on_how_often_the_run_is_logged(
    data: Path, tmp_path: Path
) -> None:
    for every in (1, 4, 100):
        options = ["--checkpoints.every=3", f"--logging.every={every}"]
        assert train(small_config(data, tmp_path / str(every), *options)) == 0
    for number in (0, 1):
        folders = [checkpoints(tmp_path / str(every))[number] for every in (1, 4, 100)]
        for file in folders[0].glob("*.safetensors"):
            contents = [content_of(folder / file.name) for folder in folders]
            assert contents[0] == contents[1] == contents[2], file
        summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
        for summary in summaries:
            del summary["config"]
        assert summaries[0] == summaries[1] == summaries[2]
        assert summaries[0]["loss"] is not None


def test_version_1_trains_without_sample_sheets(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    version_1 = ["--model.prediction=epsilon", "--model.no-qk_norm", "--model.adaln_lora_dim=0"]
    assert train(small_config(data, tmp_path, *version_1, "--samples.every=3")) == 0
    assert "no sample sheets" in capsys.readouterr().out
    assert not (tmp_path / "samples").exists()
    assert load_checkpoint(latest(tmp_path) / "model.safetensors").config.prediction == "epsilon"


def test_too_long_an_image_and_an_unknown_ratio_are_explained_before_anything_is_written(
    data: Path, tmp_path: Path
) -> None:
    for option, message in (
        ("--batch.token_budget=8", "Set it to 16 or more"),
        ("--samples.sizes=7:0", "is not an aspect ratio"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(small_config(data, tmp_path / "run", option, "--samples.every=1"))
        assert not (tmp_path / "run").exists()


def test_another_patch_size_is_refused_before_anything_is_written(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data, tmp_path / "run", "--model.patch_size=4")) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: model: FiTConfig.patch_size")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.cases("P6")
def test_a_sample_sheet_for_which_there_is_no_memory_does_not_end_the_run(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(sheet: SampleSheet, *values: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore lines.")

    monkeypatch.setattr(SampleSheet, "render", full)
    assert main(arguments(data, tmp_path, "--samples.every=3")) == 0
    assert (
        "no sample sheet of step 3: the memory of the device ran out. Lower samples.classes"
    ) in capsys.readouterr().out


@pytest.mark.cases("P6")
def test_memory_that_runs_out_before_the_first_checkpoint_is_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*values: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")

    monkeypatch.setattr("training.train.run.training_step", full)
    assert main(arguments(data, tmp_path)) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: the computer's memory ran out. Lower batch.token_budget (for padded batches, "
        "batch.images), or add --activation-checkpointing. No checkpoint has been written yet."
    )

"""A whole run: what it leaves, and what it refuses before it writes anything."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from support.run_folders import SMALL
from support.training_runs import arguments, small_config

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
        assert (loaded.config, loaded.class_names) == (SMALL, NAMES)
        assert loaded.metadata.training == {"step": 6}
    sheets = sorted((tmp_path / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["step-00000003.png", "step-00000006.png"]
    assert Image.open(sheets[0]).size == Image.open(sheets[1]).size
    assert list((tmp_path / "logs").rglob("events.*"))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text("utf-8")) == config.to_dict()


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
        ("--samples.sizes=7:5", "Unknown aspect ratio"),
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

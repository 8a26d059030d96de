"""Checkpoints: complete or not there, gone on from bit for bit, and never lost to a failure."""

import errno
import json
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from kill_nine import training_survives
from safetensors.torch import load_file, save_file
from support.latent_sets import make_latent_set
from support.training_runs import (
    arguments,
    finish,
    identical,
    small_config,
    start_training,
    weights,
)

from training.train import main, train
from training.train.checkpoints import reader as checkpointing
from training.train.checkpoints.reader import (
    CheckpointError,
    CheckpointWriter,
    checkpoints,
    latest,
    prune,
    read_summary,
    remove_unfinished,
    step_of,
)
from training.train.config import ConfigError
from training.train.run import Run

FILES = ("model", "ema-0.99", "ema-0.9", "state")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_latent_set(
        tmp_path_factory.mktemp("data") / "latents",
        ((4, 4), (2, 6), (6, 2)),
        classes=3,
        per_class=8,
        crop=(4, 4),
    )


@pytest.fixture(scope="module")
def whole_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 steps, over more than two epochs, undisturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(small_config(data, run, "--steps=15"))
    assert read_summary(latest(run))["epoch"] >= 2
    return run


def same_end(a: Path, b: Path) -> bool:
    return latest(a).name == latest(b).name and all(
        identical(weights(a, name), weights(b, name)) for name in FILES
    )


def fake_checkpoint(run: Path, step: int) -> Path:
    writer = CheckpointWriter(run, step)
    writer.begin()
    writer.write("model.safetensors", {"w": torch.ones(1)}, {})
    return writer.finish({"step": step})


def test_a_run_that_goes_on_ends_bit_for_bit_where_an_undisturbed_one_does(
    data: Path, whole_run: Path, tmp_path: Path
) -> None:
    for steps in (2, 7, 15):  # the first within the warm-up
        train(small_config(data, tmp_path, f"--steps={steps}", "--resume=latest"))
    assert same_end(whole_run, tmp_path)
    first, second = (read_summary(latest(run)) for run in (whole_run, tmp_path))
    assert {
        key: first[key] for key in ("images", "tokens", "epoch", "position", "ema_updates")
    } == {key: second[key] for key in ("images", "tokens", "epoch", "position", "ema_updates")}


def test_a_run_with_muon_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    muon = "--optimizer.kind=muon"
    train(small_config(data, tmp_path / "whole", muon))
    for steps in (2, 6):
        train(small_config(data, tmp_path / "parts", muon, f"--steps={steps}", "--resume=latest"))
    assert same_end(tmp_path / "whole", tmp_path / "parts")
    assert any(
        key.startswith("momentum_buffer/blocks.") for key in weights(tmp_path / "parts", "state")
    )


def test_two_kills_at_random_moments_change_nothing(data: Path, tmp_path: Path) -> None:
    training_survives(data, tmp_path, kills=2, chance=random.Random(0), say=lambda text: None)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to one process")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_and_exits(
    data: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    process = start_training(arguments(data, tmp_path, "--steps=100000", "--checkpoints.every=5"))
    while not checkpoints(tmp_path):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    step = step_of(latest(tmp_path))
    assert (
        f"stopped by {number.name} at step {step}, and saved. Go on by --resume latest." in output
    )
    assert read_summary(latest(tmp_path))["step"] == step


def test_without_being_told_to_go_on_a_run_is_not_touched(data: Path, whole_run: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"holds a run already, at step-00000015. Go on with it by --resume latest",
    ):
        train(small_config(data, whole_run, "--steps=15"))


def test_another_configuration_is_refused_with_the_differences(data: Path, whole_run: Path) -> None:
    before = (whole_run / "config.yaml").read_bytes()
    with pytest.raises(
        ConfigError,
        match=r"another configuration: seed: 0 → 1; optimizer.learning_rate: 0.001 → 0.002",
    ):
        train(
            small_config(
                data, whole_run, "--resume=latest", "--seed=1", "--optimizer.learning_rate=0.002"
            )
        )
    assert (whole_run / "config.yaml").read_bytes() == before


def test_other_data_and_other_batches_are_refused(
    data: Path, whole_run: Path, tmp_path: Path
) -> None:
    go_on = ["--steps=16", "--resume=latest"]
    other = make_latent_set(tmp_path / "other", ((4, 4),), classes=3, per_class=9)
    with pytest.raises(ConfigError, match=r"another latent set, of 24 images \(now: 27\)"):
        train(small_config(other, whole_run, *go_on))
    with pytest.raises(
        ConfigError, match=r"with 1 packs a step; the processes times batch.accumulation are 2 now"
    ):
        train(small_config(data, whole_run, *go_on, "--batch.accumulation=2"))


def test_a_finished_run_has_nothing_left_to_do(data: Path, whole_run: Path) -> None:
    assert train(small_config(data, whole_run, "--steps=15", "--resume=latest")) == 0
    assert [step_of(checkpoint) for checkpoint in checkpoints(whole_run)] == [15]


@pytest.mark.parametrize("name", [f"{file}.safetensors" for file in FILES] + ["summary.json"])
def test_a_damaged_checkpoint_stops_with_the_reason_and_nothing_is_removed(
    data: Path, whole_run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    damaged = latest(run) / name
    damaged.write_bytes(damaged.read_bytes()[:-100])
    files = {
        path: path.stat().st_size
        for path in run.rglob("*")
        if path.is_file() and path.name != "config.yaml"
    }
    assert main(arguments(data, run, "--steps=16", "--resume=latest")) == 1
    error = capsys.readouterr().err
    assert f"error: {damaged} cannot be read" in error
    assert (
        "Nothing was changed or removed. To go on from the checkpoint before, move step-00000015 elsewhere."
        in error
    )
    assert {path: path.stat().st_size for path in files if path.exists()} == files


def test_weights_of_another_shape_are_refused(data: Path, whole_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    file = latest(run) / "model.safetensors"
    save_file({**load_file(file), "x_embedder.proj.bias": torch.zeros(5)}, file)
    with pytest.raises(
        CheckpointError, match=r"x_embedder.proj.bias has shape \(5,\), expected \(32,\)"
    ):
        Run(small_config(data, run, "--steps=16", "--resume=latest"))


@pytest.mark.parametrize("kind", ["step", "exp_avg", "exp_avg_sq"])
def test_an_optimizer_state_that_lacks_a_tensor_is_refused(
    data: Path, whole_run: Path, tmp_path: Path, kind: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    file = latest(run) / "state.safetensors"
    state = load_file(file)
    del state[f"{kind}/x_embedder.proj.bias"]
    save_file(state, file)
    with pytest.raises(CheckpointError, match=f"lacks {kind}/x_embedder.proj.bias"):
        Run(small_config(data, run, "--steps=16", "--resume=latest"))


def test_the_newest_and_milestones_stay(data: Path, tmp_path: Path) -> None:
    train(
        small_config(
            data,
            tmp_path,
            "--steps=11",
            "--checkpoints.every=2",
            "--checkpoints.keep=2",
            "--checkpoints.milestones=[3,4]",
        )
    )
    assert [step_of(checkpoint) for checkpoint in checkpoints(tmp_path)] == [3, 4, 10, 11]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


def test_what_is_not_complete_is_never_picked_up_and_removed_only_if_ours(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        latest(tmp_path / "none")
    with pytest.raises(CheckpointError, match="not a run's folder"):
        latest(tmp_path)
    newest = fake_checkpoint(tmp_path, 20)
    fake_checkpoint(tmp_path, 3)
    unfinished = CheckpointWriter(tmp_path, 30)
    unfinished.begin()
    unfinished.write("model.safetensors", {"w": torch.ones(1)}, {})
    others = [
        newest.parent / name
        for name in ("step-00000040.bak", "mine", ".step-00000050.tmp", "step-60")
    ]
    for folder in others:
        folder.mkdir()
    assert (latest(tmp_path), [step_of(checkpoint) for checkpoint in checkpoints(tmp_path)]) == (
        newest,
        [3, 20],
    )
    remove_unfinished(tmp_path)
    assert not unfinished.temporary.exists()
    assert all(folder.exists() for folder in others)
    prune(tmp_path, 1, ())
    assert {path.name for path in newest.parent.iterdir()} == {
        newest.name,
        *(folder.name for folder in others),
    }


def test_a_checkpoint_is_not_written_over(tmp_path: Path) -> None:
    first = fake_checkpoint(tmp_path, 1)
    content = json.loads((first / "summary.json").read_text(encoding="utf-8"))
    with pytest.raises(CheckpointError, match="exists already"):
        fake_checkpoint(tmp_path, 1)
    assert json.loads((first / "summary.json").read_text(encoding="utf-8")) == content


@pytest.mark.parametrize(
    "fails_at", ["model.safetensors", "ema-0.9.safetensors", "state.safetensors", "summary.json"]
)
def test_a_full_disk_is_reported_and_the_last_good_checkpoint_stays(
    data: Path,
    tmp_path: Path,
    fails_at: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    go_on = ["--steps=4", "--checkpoints.every=2", "--resume=latest"]
    train(small_config(data, tmp_path, "--steps=2"))

    def full(path: Path) -> None:
        if path.name == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    def save_until_full(
        tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]
    ) -> None:
        full(path)
        save_file(tensors, path, metadata)

    with monkeypatch.context() as patched:
        patched.setattr(checkpointing, "save_file", save_until_full)
        patched.setattr(checkpointing, "_to_disk", full)
        assert main(arguments(data, tmp_path, *go_on)) == 1
    error = capsys.readouterr().err
    assert (
        f"error: the disk of {tmp_path} is full. The last good checkpoint is {latest(tmp_path)}; make room and go on from it by --resume latest."
        in error
    )
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert main(arguments(data, tmp_path, *go_on)) == 0
    assert step_of(latest(tmp_path)) == 4


def test_a_second_process_begins_where_the_first_has_ended(data: Path, tmp_path: Path) -> None:
    options = ["--steps=15", "--checkpoints.every=4", "--checkpoints.keep=9"]
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    finish(start_training(arguments(data, run, *options)))
    shutil.copytree(run, undisturbed)
    for checkpoint in checkpoints(run)[1:]:
        shutil.rmtree(checkpoint)
    output = finish(
        start_training(arguments(data, run, *options, "--resume=latest", "--batch.workers=1"))
    )
    assert "goes on at step 4" in output
    assert same_end(undisturbed, run)

"""Writing and removing checkpoints: complete or absent, and never lost to a failure."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.run_folders import make_run
from support.training_runs import arguments, identical, small_config, weights
from torch.distributed.checkpoint.metadata import Metadata

from comfyui_fitv2 import whole_file
from training.train import main, train
from training.train.checkpoints.reader import (
    checkpoints,
    finish_renames,
    latest,
    prune,
    read_summary,
    remove_unfinished,
    temporary_path,
)
from training.train.checkpoints.run_folder import RunError, step_of
from training.train.checkpoints.storage import PartsWriter
from training.train.checkpoints.summary import CheckpointSummary
from training.train.checkpoints.writer import CheckpointWriter


@pytest.fixture
def summary(tmp_path: Path) -> CheckpointSummary:
    return read_summary(latest(make_run(tmp_path / "other")))


def write_checkpoint(run: Path, step: int, summary: CheckpointSummary) -> Path:
    with CheckpointWriter(run, step) as checkpoint:
        checkpoint.write("model.safetensors", {"w": torch.ones(1)}, {})
        checkpoint.finish(summary)
    return checkpoint.folder.final


def test_the_newest_and_milestones_stay(data: Path, tmp_path: Path) -> None:
    keep = ["--checkpoints.keep=2", "--checkpoints.milestones", "3", "4"]
    train(small_config(data, tmp_path, "--steps=11", "--checkpoints.every=2", *keep))
    assert [step_of(checkpoint) for checkpoint in checkpoints(tmp_path)] == [3, 4, 10, 11]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 4


def test_without_a_rhythm_only_milestones_and_the_end_are_written(
    data: Path, tmp_path: Path
) -> None:
    train(small_config(data, tmp_path, "--checkpoints.every=0", "--checkpoints.milestones", "4"))
    assert [step_of(checkpoint) for checkpoint in checkpoints(tmp_path)] == [4, 6]


def test_a_folder_without_checkpoints_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        latest(tmp_path / "none")
    with pytest.raises(RunError, match="not a run's folder"):
        latest(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(RunError, match="no checkpoint in its checkpoints"):
        latest(tmp_path)


def test_unfinished_checkpoints_are_ignored_and_only_our_own_are_removed(
    tmp_path: Path, summary: CheckpointSummary
) -> None:
    newest = write_checkpoint(tmp_path, 20, summary)
    write_checkpoint(tmp_path, 3, summary)
    unfinished = temporary_path(newest.with_name("step-00000030"))
    unfinished.mkdir()
    others = ("step-00000040.bak", "mine", ".step-00000050.tmp", "step-60")
    for name in others:
        (newest.parent / name).mkdir()
    assert latest(tmp_path) == newest
    assert [step_of(checkpoint) for checkpoint in checkpoints(tmp_path)] == [3, 20]
    remove_unfinished(tmp_path)
    assert not unfinished.exists()
    prune(tmp_path, 1, ())
    assert {path.name for path in newest.parent.iterdir()} == {newest.name, *others}


def test_a_checkpoint_is_not_overwritten(tmp_path: Path, summary: CheckpointSummary) -> None:
    first = write_checkpoint(tmp_path, 1, summary)
    content = {path: path.read_bytes() for path in first.iterdir()}
    with pytest.raises(RunError, match="exists already"):
        write_checkpoint(tmp_path, 1, summary)
    assert {path: path.read_bytes() for path in first.iterdir()} == content
    assert list(first.parent.iterdir()) == [first]


@pytest.mark.cases("C7")
def test_a_checkpoint_that_cannot_be_renamed_is_kept_and_named_later(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows denies it while another program, such as a virus scanner, reads the files."""
    replace, rename = Path.replace, Path.rename

    def deny(do: Callable[[Path, Path], Path], denied: str) -> Callable[[Path, Path], Path]:
        def rename_unless_denied(path: Path, target: Path) -> Path:
            if Path(target).name == denied:
                raise PermissionError(errno.EACCES, "Access is denied", str(path))
            return do(path, target)

        return rename_unless_denied

    every_step = ["--checkpoints.every=1", "--steps=3", "--resume=latest"]
    with monkeypatch.context() as patched:
        patched.setattr("time.sleep", lambda seconds: None)
        for name, do in (("replace", replace), ("rename", rename)):
            patched.setattr(Path, name, deny(do, "step-00000003"))
        assert main(arguments(data, tmp_path / "run", *every_step)) == 0
    printed = capsys.readouterr().out
    assert "step 3 is complete, but the system does not let it be renamed" in printed
    assert "Training goes on." in printed
    assert [step_of(path) for path in checkpoints(tmp_path / "run")] == [1, 2]
    remove_unfinished(tmp_path / "run")
    assert main(arguments(data, tmp_path / "run", *every_step)) == 0
    assert step_of(latest(tmp_path / "run")) == 3
    train(small_config(data, tmp_path / "other", *every_step))
    files = [weights(tmp_path / folder, "state") for folder in ("run", "other")]
    assert identical(*files)


def test_a_complete_checkpoint_gets_its_name_unless_that_is_taken(
    tmp_path: Path, summary: CheckpointSummary
) -> None:
    first = write_checkpoint(tmp_path, 1, summary)
    nameless = first.rename(temporary_path(first))
    finish_renames(tmp_path)
    assert checkpoints(tmp_path) == [first]
    shutil.copytree(first, nameless)
    finish_renames(tmp_path)
    assert nameless.exists()
    remove_unfinished(tmp_path)
    assert list(first.parent.iterdir()) == [first]


def test_an_interrupted_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    def write_and_stop() -> None:
        with CheckpointWriter(tmp_path, 1) as checkpoint:
            checkpoint.write("model.safetensors", {"w": torch.ones(1)}, {})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_stop()
    assert not list((tmp_path / "checkpoints").iterdir())


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
    resume = ["--steps=4", "--checkpoints.every=2", "--resume=latest"]
    train(small_config(data, tmp_path, "--steps=2"))

    def full(path: Path) -> None:
        if fails_at in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(whole_file, "sync_to_disk", full)
        assert main(arguments(data, tmp_path, *resume)) == 1
    assert (
        f"error: the disk of {tmp_path} is full. Make room there. The last good checkpoint is "
        f"{latest(tmp_path)}; resume with --resume latest."
    ) in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert main(arguments(data, tmp_path, *resume)) == 0
    assert step_of(latest(tmp_path)) == 4


def test_parts_that_the_main_process_does_not_see_complete_nothing(tmp_path: Path) -> None:
    """As where machines train together, and their folders are not the same."""
    completed: list[bool] = []
    folders = ["model.parts", "state.parts"]
    writer = PartsWriter(tmp_path, folders, {}, 0, 2, lambda: completed.append(True))
    for folder in folders:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "part-00001-of-00002.safetensors").touch()
    with pytest.raises(RunError, match=r"model.parts.part-00002-of-00002.* all machines share"):
        writer.finish(Metadata({}), [])
    for folder in folders:
        (tmp_path / folder / "part-00002-of-00002.safetensors").touch()
    assert not completed
    writer.finish(Metadata({}), [])
    assert completed

"""Skipped steps: which they are, that they change nothing, and when they stop a run."""

from pathlib import Path

import pytest
from support.training_runs import arguments, farthest

from comfyui_fitv2 import load_checkpoint
from training.train import main
from training.train.checkpoints.reader import latest, read_summary
from training.train.config import GuardConfig
from training.train.guard import StepGuard, TrainingError


def test_the_guard_skips_what_is_not_finite_or_extreme_and_gives_up_in_the_end() -> None:
    guard = StepGuard(GuardConfig(gradient_factor=5, window=30, limit=4))
    assert all(guard.accepts(norm) for norm in [9.0] + [1.0] * 24)
    norms = (float("nan"), 4.9, 5.1, float("inf"))
    assert [guard.accepts(norm) for norm in norms] == [False, True, False, False]
    assert guard.accepts(1.1)
    message = r"4 of the last 30 steps.*the last: 7; usual: 1.*Lower optimizer.learning_rate"
    with pytest.raises(TrainingError, match=message):
        guard.accepts(7.0)


def test_a_skipped_step_changes_nothing_and_too_many_stop_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = [
        "--guard.gradient_factor=1e-4",
        "--guard.window=20",
        "--steps=40",
        "--checkpoints.every=1",
        "--checkpoints.keep=40",
        "--guard.limit=5",
    ]
    assert main(arguments(data, tmp_path, *strict)) == 1
    error = capsys.readouterr().err
    newest = latest(tmp_path)
    assert "error: 5 of the last 20 steps had gradients" in error
    assert f"The last good checkpoint is {newest}; resume with --resume latest." in error
    summary = read_summary(newest)
    assert (summary.step, summary.skipped, summary.ema_updates) == (24, 4, 20)
    states = [
        load_checkpoint(folder / "model.safetensors").model.state_dict()
        for folder in (newest.with_name("step-00000020"), newest)
    ]
    assert farthest(*states) == 0.0


def test_the_guards_advice_can_be_followed(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The steps that were skipped before count no more, or the next one would stop the run."""
    options = ["--guard.window=20", "--guard.limit=3", "--steps=25", "--checkpoints.every=1"]
    assert main(arguments(data, tmp_path, *options, "--guard.gradient_factor=1e-4")) == 1
    error = capsys.readouterr().err
    assert "Lower optimizer.learning_rate or raise optimizer.warmup_steps" in error
    assert "with --resume latest these may change" in error
    advice = ["--optimizer.learning_rate=1e-4", "--optimizer.warmup_steps=50", "--precision=fp32"]
    assert main(arguments(data, tmp_path, *options, *advice, "--resume=latest")) == 0
    assert "optimizer.learning_rate: 0.001 → 0.0001" in capsys.readouterr().out
    assert read_summary(latest(tmp_path)).step == 25

"""Real signals to real processes: a run stops and saves, and nothing of it is left behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.training_runs import ROOT, arguments, finish, start_training, survivors, torchrun

from training.train import main
from training.train.checkpoints.reader import checkpoints, finish_renames, latest
from training.train.checkpoints.run_folder import CHECKPOINTS, step_of

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals"),
]
ACCELERATE = ["-m", "accelerate.commands.launch", "--cpu"]
WHOLE = ("-m", "training.train")
SHARDED = (str(ROOT / "tests" / "support" / "sharded_run.py"),)


def start(
    data: Path, run: Path, launcher: Sequence[str] = (), script: Sequence[str] = WHOLE
) -> subprocess.Popen[str]:
    """A run that has written a checkpoint and would take hours."""
    options = ["--steps=1000000", "--checkpoints.every=5", "--batch.workers=1", "--resume=latest"]
    process = start_training(arguments(data, run, *options), *launcher, script=script)
    before = len(checkpoints(run))
    while len(checkpoints(run)) == before:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    return process


def wait_until_gone(run: Path) -> None:
    until = time.monotonic() + 60
    while survivors(run):
        assert time.monotonic() < until, survivors(run)
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("launcher", "script", "number", "reported"),
    [
        (torchrun(2), WHOLE, signal.SIGINT, "SIGINT"),
        (torchrun(2), WHOLE, signal.SIGKILL, "SIGTERM"),
        (ACCELERATE, WHOLE, signal.SIGTERM, "SIGTERM"),
        (torchrun(2), SHARDED, signal.SIGINT, "SIGINT"),
    ],
    ids=["torchrun-SIGINT", "torchrun-SIGKILL", "accelerate-SIGTERM", "sharded-SIGINT"],
)
def test_a_signal_to_the_launcher_stops_and_saves(
    data: Path,
    tmp_path: Path,
    launcher: list[str],
    script: Sequence[str],
    number: signal.Signals,
    reported: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = start(data, tmp_path, launcher, script)
    assert main(arguments(data, tmp_path, "--resume=latest")) == 1
    assert "trains here since 20" in capsys.readouterr().err
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    wait_until_gone(tmp_path)
    step = step_of(latest(tmp_path))
    assert f"stopped by {reported} at step {step}, and saved." in output
    assert "Extension modules" not in output  # of a crash
    assert not [path for path in (tmp_path / CHECKPOINTS).iterdir() if path.name[0] == "."]


def test_a_second_start_is_refused_until_the_first_one_is_dead(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = start(data, tmp_path)
    for resume in ("no", "latest"):
        assert main(arguments(data, tmp_path, f"--resume={resume}")) == 1
        error = capsys.readouterr().err
        assert f"error: process {first.pid} on " in error
        assert "trains here since 20" in error
        assert error.count("\n") == 1
    first.kill()  # alone: its data worker is to end by itself
    wait_until_gone(tmp_path)
    first.communicate(timeout=120)
    finish_renames(tmp_path)  # the kill may come just before a complete checkpoint gets its name
    step = step_of(latest(tmp_path))
    resumed = start_training(arguments(data, tmp_path, f"--steps={step + 1}", "--resume=latest"))
    assert f"resumes at step {step}" in finish(resumed)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

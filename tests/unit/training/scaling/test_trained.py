"""A run of a study that ends early: stopped, or failed."""

import signal
import sys
from pathlib import Path

import pytest
from support.scaling_study import STUDY

from training.scaling.config_file import read_scaling_config
from training.scaling.trained import FailedRunError, train
from training.train.config import TrainingConfig

pytestmark = [pytest.mark.processes, pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM")]

TO_THE_STUDY = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(60)"
TO_THE_RUN = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
TO_A_LAUNCHER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
os.kill(os.getppid(), signal.SIGTERM)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> TrainingConfig:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    study = read_scaling_config(str(tmp_path / "study.yaml"))
    return study.training_of(study.runs[0], tmp_path / "data", tmp_path / "runs" / "first")


def trains_by(script: str, patched: pytest.MonkeyPatch) -> None:
    """Let this Python program take the place of the trainer."""
    patched.setattr("training.scaling.trained.by_path", lambda _: [sys.executable, "-c", script])


@pytest.mark.parametrize("script", [TO_THE_STUDY, TO_THE_RUN, TO_A_LAUNCHER])
def test_sigterm_before_the_first_step_stops_the_run(
    run: TrainingConfig, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_by(script, monkeypatch)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(run, "")
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_while_the_run_is_started_reaches_it(
    run: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: str) -> list[str]:
        signal.raise_signal(signal.SIGTERM)
        return [sys.executable, "-c", "import time; time.sleep(60)"]

    monkeypatch.setattr("training.scaling.trained.by_path", start)
    with pytest.raises(KeyboardInterrupt):
        train(run, "")


def test_a_run_that_ends_by_itself_before_its_last_step_has_failed(
    run: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_by("raise SystemExit(1)", monkeypatch)
    with pytest.raises(FailedRunError, match="training of first ended with status 1"):
        train(run, "")

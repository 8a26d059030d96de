"""The history of a run: it survives resuming, damage, and a disk that cannot be written."""

import json
import math
from pathlib import Path

from training.train.history import HISTORY, Curve, History


def test_a_run_that_resumes_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    history = History(tmp_path, 0)
    for step in range(10, 60, 10):
        history.add(step, {"loss": 1 / step})
    history.add(40, {"held_out_loss": 0.5, "training_loss": 0.4})
    resumed = History(tmp_path, 40)
    assert resumed.curves["loss"].points == [(step, 1 / step) for step in (10, 20, 30, 40)]
    assert [(m.step, m.held_out, m.training) for m in resumed.measurements] == [(40, 0.5, 0.4)]
    assert len((tmp_path / HISTORY).read_text().splitlines()) == 5
    assert History(tmp_path, 0).curves == {}
    assert (tmp_path / HISTORY).read_text() == ""


def test_half_a_line_of_a_killed_run_is_left_out(tmp_path: Path) -> None:
    lines = ['{"step": 1, "loss": 2.0}', "[1]", '{"loss": 3.0}', '{"step": 2, "lo']
    (tmp_path / HISTORY).write_text("\n".join(lines), encoding="utf-8")
    history = History(tmp_path, 5)
    assert history.curves["loss"].points == [(1, 2.0)]
    history.add(6, {"loss": 1.0})
    texts = (tmp_path / HISTORY).read_text("utf-8").splitlines()
    assert [json.loads(text)["step"] for text in texts] == [1, 6]


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    history = History(tmp_path, 0)
    history.add(1, {"loss": math.nan, "gradient_norm": math.inf, "epoch": 0.5})
    assert history.last == {"epoch": 0.5}
    assert History(tmp_path, 1).last == {"epoch": 0.5}


def test_a_disk_that_cannot_be_written_is_a_problem_and_no_error(tmp_path: Path) -> None:
    (tmp_path / HISTORY).mkdir()
    history = History(tmp_path, 0)
    history.add(1, {"loss": 1.0})
    assert "cannot write" in history.problem
    assert history.last == {"loss": 1.0}


def test_a_curve_stays_short_and_keeps_its_mean_and_its_end() -> None:
    curve = Curve()
    for step in range(1, 20_001):
        curve.add(step, float(step))
    assert 500 <= len(curve.points) <= 1000
    assert curve.points[-1][0] > 19_900
    assert all(abs(step - value) < 40 for step, value in curve.points)

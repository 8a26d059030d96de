"""How ``python dev.py test`` runs its checks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from dev import TESTS
from devkit.checks import Check, run_in_a_row, run_side_by_side
from devkit.environment import ROOT

pytestmark = pytest.mark.processes


def check(name: str, code: str) -> Check:
    return Check(name, [sys.executable, "-c", code], os.environ)


def test_the_names_of_failed_checks_come_back(capfd: pytest.CaptureFixture[str]) -> None:
    checks = [check("good", "print('fine')"), check("bad", "raise SystemExit(3)")]
    assert run_in_a_row(checks) == ["bad"]
    printed = capfd.readouterr().out
    assert "fine" in printed
    assert "good: passed after" in printed
    assert "bad: failed after" in printed


def waiting(name: str, own: Path, other: Path) -> Check:
    """A check that makes a file, waits for another, and says so."""
    code = (
        f"import pathlib, time\npathlib.Path({str(own)!r}).touch()\n"
        f"while not pathlib.Path({str(other)!r}).exists(): time.sleep(0.01)\n"
        f"print('said by {name}')"
    )
    return check(name, code)


def test_two_run_at_a_time_and_the_row_that_is_free_takes_the_next(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / name for name in ("long", "short", "last")}
    checks = [
        waiting("long", files["long"], files["last"]),
        waiting("short", files["short"], files["long"]),
        check("failing", "raise SystemExit(1)"),
        waiting("last", files["last"], files["long"]),
    ]
    assert run_side_by_side(checks) == ["failing"]
    printed = capfd.readouterr().out
    assert "failing: failed after" in printed
    assert all(f"said by {name}" in printed for name in files)


def test_when_one_row_is_stopped_the_other_stops_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    code = "import pathlib, time\n{}.touch()\ntime.sleep(20)\n{}.touch()"
    long = check("long", code.format(*(f"pathlib.Path({str(p)!r})" for p in (begun, ended))))
    started: list[subprocess.Popen[bytes]] = []
    start = Check.start

    def start_or_stop(check: Check, output: IO[str] | None = None) -> subprocess.Popen[bytes]:
        if threading.current_thread() is threading.main_thread():
            while not begun.exists():
                time.sleep(0.01)
            raise KeyboardInterrupt
        started.append(start(check, output))
        return started[-1]

    monkeypatch.setattr(Check, "start", start_or_stop)
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([long, long, long])
    assert started[0].wait(10) != 0
    assert len(started) == 1
    assert not ended.exists()


def test_every_folder_of_tests_but_soak_is_run() -> None:
    folders = {file.relative_to(ROOT / "tests").parts[0] for file in ROOT.glob("tests/*/**/test_*")}
    assert folders == {*TESTS, "soak"}

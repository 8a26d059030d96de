"""How ``python dev.py test`` runs its checks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dev import SERVER_TESTS, UNIT_TESTS
from devkit import checks as checks_module
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


def test_two_rows_run_at_the_same_time(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wait = "import pathlib, time\n{}.touch()\nwhile not {}.exists(): time.sleep(0.01)"
    one, two = (f"pathlib.Path({str(tmp_path / name)!r})" for name in ("one", "two"))
    first = [check("first", wait.format(one, two) + "\nprint('said by one')")]
    second = [
        check("second", wait.format(two, one) + "\nprint('said by two')"),
        check("third", "raise SystemExit(1)"),
    ]
    assert run_side_by_side(first, second) == ["third"]
    printed = capfd.readouterr().out
    assert printed.index("said by one") < printed.index("said by two")
    assert printed.index("said by two") < printed.index("third: failed after")


def test_when_the_first_row_is_stopped_the_second_stops_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    code = "import pathlib, time\n{}.touch()\ntime.sleep(20)\n{}.touch()"
    second = check("second", code.format(*(f"pathlib.Path({str(p)!r})" for p in (begun, ended))))

    def interrupted(checks: object) -> list[str]:
        while not begun.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(checks_module, "run_in_a_row", interrupted)
    started: list[subprocess.Popen[bytes]] = []
    start = Check.start
    monkeypatch.setattr(Check, "start", lambda *given: started.append(start(*given)) or started[-1])
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([], [second, second])
    assert started[0].wait(10) != 0
    assert len(started) == 1
    assert not ended.exists()


def test_all_tests_but_those_of_soak_are_in_one_of_the_two_rows() -> None:
    folders = {file.relative_to(ROOT / "tests").parts[0] for file in ROOT.glob("tests/*/**/test_*")}
    assert folders == {*UNIT_TESTS[1:], *SERVER_TESTS[1:], "soak"}

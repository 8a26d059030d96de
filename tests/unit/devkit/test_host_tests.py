"""``dev.py test --hosts``: what is kept, and the table of results."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from devkit import host_tests
from devkit.environment import ROOT
from devkit.host import Host
from devkit.host_tests import (
    COLUMNS,
    Count,
    _count,
    compare_hosts,
    fingerprint,
    matrix,
    oldest_host_check,
)
from devkit.other_hosts import OLDER_HOST


@pytest.mark.processes
def test_tests_are_counted_by_their_ends(tmp_path: Path) -> None:
    file = tmp_path / "test_ends.py"
    file.write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.mark.skip\ndef test_is_left_out(): pass\n"
        "def test_has_no_fixture(nothing): pass\n"
    )
    python = Path(sys.executable)
    assert _count(python, {}, [str(file)]) == Count(1, 2, 1)
    assert not _count(python, {}, [str(tmp_path / "nothing.py")]).good


STOPPED = """
import signal, sys
from pathlib import Path
from devkit.host_tests import _count
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
_count(Path(sys.executable), {{}}, [{file!r}])
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_stopping_lets_tests_end_what_they_started(tmp_path: Path) -> None:
    begun, ended, file = (tmp_path / name for name in ("begun", "ended", "test_long.py"))
    file.write_text(
        "import pathlib, pytest, time\n"
        f"begun, ended = pathlib.Path({str(begun)!r}), pathlib.Path({str(ended)!r})\n"
        "@pytest.fixture\ndef server():\n    yield begun.touch()\n    ended.touch()\n"
        "def test_runs(server): time.sleep(60)\n"
    )
    command = [sys.executable, "-c", STOPPED.format(file=str(file))]
    process = subprocess.Popen(command, cwd=ROOT)
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait(60) == 1
    assert ended.exists()


def test_what_passed_is_kept_until_something_changes(
    own: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    counts = {"loads": Count(7, 0), "workflows": Count(5, 1, 2)}

    def count(python: Path, environment: Mapping[str, str], arguments: Sequence[str]) -> Count:
        assert environment["FITV2_HOST"] == str(own.folder)
        (column,) = (name for name in COLUMNS if COLUMNS[name] == arguments)
        ran.append(column)
        return counts.get(column, Count(3, 0))

    monkeypatch.setattr(host_tests, "_count", count)
    monkeypatch.setattr(host_tests, "TESTED", ("__init__.py",))
    assert compare_hosts({}, ["0.30.0"]) == ["0.30.0: workflows"]
    assert "| 0.30.0 | 7 | 5 of 6, 2 skipped | 3 | 3 |" in capsys.readouterr().out
    assert ran == list(COLUMNS)
    ran.clear()
    counts["workflows"] = Count(6, 0)
    assert compare_hosts({}, ["0.30.0"]) == []
    assert ran == ["workflows"]
    ran.clear()
    (own.folder / "main.py").write_text("changed = True")
    assert compare_hosts({}, ["0.30.0"]) == []
    assert ran == list(COLUMNS)


def test_a_stopped_run_says_what_was_not_run(
    own: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def count(python: Path, environment: Mapping[str, str], arguments: Sequence[str]) -> Count:
        if arguments == COLUMNS["workflows"]:
            raise KeyboardInterrupt
        return Count(7, 0)

    monkeypatch.setattr(host_tests, "_count", count)
    with pytest.raises(KeyboardInterrupt):
        compare_hosts({}, ["0.30.0"])
    assert "| 0.30.0 | 7 | not run | not run | not run |" in capsys.readouterr().out


def test_a_result_depends_on_the_tests_and_the_comfyui(own: Host) -> None:
    states = [fingerprint(own, arguments) for arguments in COLUMNS.values()]
    assert len({*states}) == len(COLUMNS)
    (own.folder / "comfy" / "new.py").touch()
    assert fingerprint(own, COLUMNS["loads"]) not in states


def test_the_oldest_version_is_one_check_of_all_tests(
    own: Host, make_comfyui: Callable[[str], Path], tmp_path: Path
) -> None:
    fetched = tmp_path / "dev" / "hosts" / "0.16.3"
    fetched.mkdir(parents=True)
    make_comfyui("0.16.3").rename(fetched / "comfyui")
    check = oldest_host_check({"OMP_NUM_THREADS": "1"})
    assert check.name == "ComfyUI 0.16.3"
    assert {*COLUMNS["loads"], *COLUMNS["workflows"]} <= {*map(str, check.command)}
    assert check.variables[OLDER_HOST] == "0.16.3"
    assert check.variables["OMP_NUM_THREADS"] == "1"


def test_the_table_says_what_passed() -> None:
    table = matrix({"0.16.3": {"loads": Count(7, 0, 1), "browser": Count(3, 1)}})
    row = "| 0.16.3 | 7, 1 skipped | not run | not run | 3 of 4 |"
    assert table.splitlines()[-1] == row

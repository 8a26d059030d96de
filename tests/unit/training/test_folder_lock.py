"""One command at a time writes to a folder; a lock that nobody holds any more is taken over."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event, Thread

import pytest

from training import folder_lock as module
from training.folder_lock import LOCK_FILE, FolderLockedError, Holder, folder_lock

ROOT = Path(__file__).parents[3]


def write_lock(folder: Path, holder: Holder | str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = holder if isinstance(holder, str) else json.dumps(asdict(holder))
    (folder / LOCK_FILE).write_text(text, encoding="utf-8")
    return folder / LOCK_FILE


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_is_held_and_released(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    with folder_lock(folder, "trains here"):
        (folder / "file").touch()
        message = (
            rf"process {os.getpid()} on .* trains here since 20..-.*: {folder}. Wait until it has "
            rf"ended, stop it, or name another --output. .* remove {folder / LOCK_FILE}"
        )
        with pytest.raises(FolderLockedError, match=message), folder_lock(folder, "trains here"):
            pytest.fail("taken twice")
    assert [path.name for path in folder.iterdir()] == ["file"]
    with folder_lock(folder, "trains here"):
        pass


def test_a_folder_that_stays_empty_is_not_left_behind(tmp_path: Path) -> None:
    def fail() -> None:
        with folder_lock(tmp_path / "runs" / "mine", "trains here"):
            raise ValueError("another reason")

    with pytest.raises(ValueError, match="another reason"):
        fail()
    assert not list(tmp_path.iterdir())


def test_the_lock_of_an_ended_process_is_taken_over_at_once(tmp_path: Path) -> None:
    write_lock(tmp_path, replace(Holder.this_process(), pid=ended_process()))
    started = time.monotonic()
    with folder_lock(tmp_path, "trains here"):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("case", ["another host", "a reused id", "half written"])
def test_a_lock_of_which_nothing_is_known_is_taken_over_when_nobody_touches_it(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Holder.this_process()
    holder = {
        "another host": replace(here, host="elsewhere", pid=1),
        "a reused id": replace(here, started=here.started - 3600),
        "half written": "{",
    }[case]
    file = write_lock(tmp_path, holder)
    monkeypatch.setattr(module, "ABANDONED_SECONDS", 0.5)
    with folder_lock(tmp_path, "trains here"):
        assert json.loads(file.read_text())["pid"] == os.getpid()


def test_a_lock_of_another_host_is_respected_while_it_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of that host may be wrong by hours."""
    file = write_lock(tmp_path, replace(Holder.this_process(), host="elsewhere"))
    os.utime(file, (0, 0))
    done = Event()

    def touch() -> None:
        for second in range(1, 100):
            if done.wait(0.3):
                return
            os.utime(file, (second, second))

    monkeypatch.setattr(module, "ABANDONED_SECONDS", 20)
    Thread(target=touch, daemon=True).start()
    with (
        pytest.raises(FolderLockedError, match="on elsewhere trains here"),
        folder_lock(tmp_path, "trains here"),
    ):
        pytest.fail("taken although it is held")
    done.set()
    assert file.exists()


def test_a_held_lock_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOUCH_SECONDS", 0.05)
    with folder_lock(tmp_path, "trains here"):
        before = (tmp_path / LOCK_FILE).stat().st_mtime_ns
        until = time.monotonic() + 10
        while (tmp_path / LOCK_FILE).stat().st_mtime_ns == before:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_a_lock_that_was_taken_over_meanwhile_is_neither_touched_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a machine that slept, while another one that shares the folder went on."""
    monkeypatch.setattr(module, "TOUCH_SECONDS", 0.02)
    with folder_lock(tmp_path, "trains here"):
        lock = write_lock(tmp_path, replace(Holder.this_process(), host="elsewhere"))
        time.sleep(0.2)  # until a touch that had begun is over
        os.utime(lock, (0, 0))
        time.sleep(0.2)
        assert lock.stat().st_mtime == 0
    assert "elsewhere" in lock.read_text(encoding="utf-8")


def test_a_file_system_without_links_locks_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", no_links)
    with (
        folder_lock(tmp_path, "trains here"),
        pytest.raises(FolderLockedError),
        folder_lock(tmp_path, "trains here"),
    ):
        pytest.fail("taken twice")


CONTENDER = """
import sys, time
from pathlib import Path
from training.folder_lock import FolderLockedError, folder_lock

folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with folder_lock(folder, "trains here"):
        print("taken", flush=True)
        sys.stdin.readline()
except FolderLockedError:
    print("refused", flush=True)
"""


@pytest.mark.processes
def test_of_many_starts_at_once_one_gets_an_abandoned_folder(tmp_path: Path) -> None:
    write_lock(tmp_path, replace(Holder.this_process(), pid=ended_process()))
    contenders = [
        subprocess.Popen(
            [sys.executable, "-c", CONTENDER, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    pipes = [(c.stdin, c.stdout) for c in contenders if c.stdin and c.stdout]
    assert [output.readline() for _, output in pipes] == ["ready\n"] * 6
    for commands, _ in pipes:
        commands.write("\n")
        commands.flush()
    answers = [output.readline() for _, output in pipes]
    for contender in contenders:
        contender.communicate("\n", timeout=120)
    assert sorted(answers) == ["refused\n"] * 5 + ["taken\n"]

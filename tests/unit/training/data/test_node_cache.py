"""``training.data.node_cache``: files that processes share, each made once."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.data.node_cache import NodeCache


def read(path: Path) -> bytes:
    return path.read_bytes()


def written(content: bytes, made: list[bytes] | None = None):
    def make(path: Path) -> None:
        path.write_bytes(content)
        if made is not None:
            made.append(content)

    return make


def test_a_file_is_made_once(tmp_path: Path) -> None:
    made: list[bytes] = []
    cache = NodeCache(tmp_path / "cache", 100)
    assert cache.open("a", 3, written(b"aaa", made), read) == b"aaa"
    assert cache.open("a", 3, written(b"bbb", made), read) == b"aaa"
    assert made == [b"aaa"]
    assert cache.has("a")


def test_what_was_used_least_recently_makes_room(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, 10)
    for age, name in enumerate("abc"):
        cache.open(name, 3, written(b"xxx"), read)
        os.utime(tmp_path / name, (age, age))
    cache.open("a", 3, written(b""), read)  # used again
    cache.open("d", 3, written(b"xxx"), read)
    assert [name for name in "abcd" if cache.has(name)] == ["a", "c", "d"]


def test_a_file_that_is_removed_while_it_is_opened_is_made_again(tmp_path: Path) -> None:
    cache, removed = NodeCache(tmp_path, 10), []

    def opened(path: Path) -> bytes:
        if not removed:
            removed.append(path.unlink())
        return path.read_bytes()

    assert cache.open("a", 3, written(b"aaa"), opened) == b"aaa"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.write_bytes(b"half")
        raise ConnectionError("lost")

    cache = NodeCache(tmp_path, 10)
    with pytest.raises(ConnectionError):
        cache.open("a", 3, make, read)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".lock")] == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / ".a.1.tmp", tmp_path / ".b.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    NodeCache(tmp_path, 100).open("c", 3, written(b"ccc"), read)
    assert (old.exists(), new.exists()) == (False, True)


def _count(cache: NodeCache, log: Path, names: str) -> None:
    def make(path: Path) -> None:
        with log.open("ab") as file:
            file.write(b".")
        time.sleep(0.2)
        path.write_bytes(b"xxx")

    def open_one(name: str) -> bytes:
        return cache.open(name, 3, make, read)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(open_one, names)) == [b"xxx"] * len(names)


@pytest.mark.processes
def test_processes_and_threads_make_each_file_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    cache = NodeCache(tmp_path / "cache", 100)
    workers = [
        context.Process(target=_count, args=(cache, tmp_path / "log", "abcabc")) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_bytes() == b"..."


def test_a_cache_without_a_limit_leaves_a_tenth_of_the_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert 0.8 < NodeCache(tmp_path / "cache").room() / free < 0.95


def test_options_come_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FITV2_CACHE", str(tmp_path / "variable"))
    monkeypatch.setenv("FITV2_CACHE_GB", "2.5")
    assert NodeCache.chosen() == NodeCache(tmp_path / "variable" / "files", 2_500_000_000)
    chosen = NodeCache.chosen(str(tmp_path / "option"), 1)
    assert chosen == NodeCache(tmp_path / "option" / "files", 1_000_000_000)
    for stated in ("two", "nan", "inf", "-1"):
        monkeypatch.setenv("FITV2_CACHE_GB", stated)
        with pytest.raises(ValueError, match=f"FITV2_CACHE_GB is '{stated}'"):
            NodeCache.chosen()
    with pytest.raises(ValueError, match=r"--cache.gigabytes is 'inf'; it must be a number"):
        NodeCache.chosen(gigabytes=math.inf)

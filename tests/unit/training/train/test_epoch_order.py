"""Orders of epochs: of a large set one process computes them, and the others map its file."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
import pytest

from training.train import draws as module
from training.train.draws import Draws

COUNT = 2000


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files are; sets of a thousand images count as large."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "SHARED_FROM", 1000)
    monkeypatch.setattr(module, "CHUNK", 300)
    return tmp_path


def make(seed: int = 0, balance: float = 0.0, held_out: np.ndarray | None = None) -> Draws:
    random = np.random.default_rng(seed)
    lengths = random.integers(16, 257, (COUNT, 2), dtype=np.int32)
    return Draws(lengths, random.integers(0, 5, COUNT), held_out, balance)


def files(folder: Path) -> list[str]:
    found = (path.name for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.startswith(".lock"))


@pytest.mark.parametrize("balance", [0.0, 0.5])
@pytest.mark.parametrize("held_out", [None, np.array([3, 299, 300, 1999])], ids=["all", "some"])
def test_a_shared_order_is_the_one_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, balance: float, held_out: np.ndarray | None
) -> None:
    shared = list(make(0, balance, held_out).epoch(3, 2, 0.5))
    assert len(files(folder)) == 1
    monkeypatch.setattr(module, "SHARED_FROM", 10**9)
    assert list(make(0, balance, held_out).epoch(3, 2, 0.5)) == shared
    assert any(crop for (_, _, crop, _), _ in shared)
    assert len(shared) == COUNT - (0 if held_out is None else 4)


def test_an_order_is_computed_once_and_belongs_to_its_set(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = list(make().epoch(0, 0, 0.5))
    with monkeypatch.context() as patched:
        patched.setattr(Draws, "_drawn", lambda *_: pytest.fail("it is computed already"))
        assert list(make().epoch(0, 0, 0.5)) == first
    for others in (make().epoch(1, 0, 0.5), make().epoch(0, 1, 0.5), make().epoch(0, 0, 0.4)):
        assert list(others) != first
    assert list(make(seed=1).epoch(0, 0, 0.5)) != first
    assert list(make(held_out=np.array([5])).epoch(0, 0, 0.5)) != first


def test_only_the_newest_orders_are_kept(folder: Path) -> None:
    draws = make()
    orders = [list(draws.epoch(0, epoch, 0.5)) for epoch in range(7)]
    assert len(files(folder)) == 4
    assert [list(draws.epoch(0, epoch, 0.5)) for epoch in range(7)] == orders


def test_where_no_file_can_be_made_it_stays_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "file"))
    assert len(list(make().epoch(0, 0, 0.5))) == COUNT
    assert files(folder) == ["file"]


def _total(answers: Queue[int]) -> None:
    answers.put(sum(length for _, length in make().epoch(0, 0, 0.5)))


@pytest.mark.processes
@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_processes_share_one_file(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    workers = [context.Process(target=_total, args=(answers,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert len({answers.get(timeout=120) for _ in workers}) == 1
    for worker in workers:
        worker.join(30)
    assert len(files(folder)) == 1


def test_least_and_shortest_are_those_of_the_drawn(folder: Path) -> None:
    for held_out in (None, np.arange(0, COUNT, 3)):
        draws = make(held_out=held_out)
        lengths = draws.drawn_lengths
        assert draws.shortest == lengths.min()
        assert draws.least_tokens == lengths.min(axis=1).sum()
        assert len(draws) == len(lengths)

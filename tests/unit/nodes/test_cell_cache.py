"""Cells of a sweep are kept within bounds, and no longer than what made them."""

from __future__ import annotations

import gc
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

# By its path: the package around it needs a ComfyUI.
_SPEC = importlib.util.spec_from_file_location(
    "fit_cell_cache", Path(__file__).parents[3] / "nodes" / "host" / "cell_cache.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
cell_cache = importlib.util.module_from_spec(_SPEC)
sys.modules["fit_cell_cache"] = cell_cache
_SPEC.loader.exec_module(cell_cache)


class Model:
    """Something that makes cells, and that weak references can follow."""


def cell(value: float, count: int = 4) -> torch.Tensor:
    return torch.full((count,), float(value))


def test_what_was_put_comes_back_and_is_nobody_elses() -> None:
    cache = cell_cache.CellCache(1000)
    pack = torch.arange(100.0)
    cache.put("a", pack[:4])
    pack[:4] = -1
    got = cache.get("a")
    assert got.tolist() == [0, 1, 2, 3]
    got[0] = 7
    assert cache.get("a").tolist() == [0, 1, 2, 3]
    assert cache.get("a").untyped_storage().nbytes() == 16
    assert cache.get("b") is None


def test_the_least_used_go_first() -> None:
    cache = cell_cache.CellCache(3 * 16)
    for name in "abc":
        cache.put(name, cell(1))
    cache.get("a")
    cache.put("d", cell(2))
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]
    assert cache.bytes_held == 3 * 16


def test_one_larger_than_the_room_is_not_kept_and_drops_nothing() -> None:
    cache = cell_cache.CellCache(32)
    cache.put("a", cell(1))
    cache.put("b", cell(1, 100))
    assert cache.get("a") is not None
    assert cache.get("b") is None


def test_a_cell_that_is_put_again_counts_once() -> None:
    cache = cell_cache.CellCache(100)
    cache.put("a", cell(1))
    cache.put("a", cell(2))
    assert cache.bytes_held == 16
    assert cache.get("a").tolist() == [2] * 4


def test_nothing_is_left_of_cells_that_had_to_go() -> None:
    cache, model = cell_cache.CellCache(2 * 16), Model()
    for number in range(100):
        cache.put(number, cell(number), model)
    assert len(cache) == 2
    (kept,) = cache._of_makers.values()
    assert kept == {98, 99}


@pytest.mark.parametrize("dropped_before", [False, True])
def test_cells_go_with_the_model_that_made_them(dropped_before: bool) -> None:
    cache = cell_cache.CellCache(48)
    model, other = Model(), Model()
    cache.put("a", cell(1), model)
    cache.put("b", cell(1), other)
    if dropped_before:
        cache.put("c", cell(1))
        cache.put("d", cell(1))
    del model
    gc.collect()
    assert cache.get("a") is None
    assert cache.get("b") is not None
    assert cache.bytes_held == 16 * len(cache)

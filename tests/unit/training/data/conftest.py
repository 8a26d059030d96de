"""Addresses for the tests of this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from training.data import remote


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No long pauses between attempts, and a cache of the test's own."""
    monkeypatch.setattr(remote, "_PAUSES", (0.01, 0.02))
    monkeypatch.setenv("FITV2_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def address() -> Iterator[str]:
    """An empty folder in the memory of this process, as an address."""
    system = fsspec.filesystem("memory")
    name = f"memory://test-{os.urandom(4).hex()}"
    yield f"{name}/latents"
    if system.exists(name):
        system.rm(name, recursive=True)

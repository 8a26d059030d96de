"""Folders that look like a ComfyUI."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devkit import host_tests, other_hosts
from devkit.host import Host


@pytest.fixture
def make_comfyui(tmp_path: Path) -> Callable[[str], Path]:
    """Makes a folder that looks like a ComfyUI of some version."""

    def make(version: str) -> Path:
        folder = tmp_path / f"ComfyUI {version}"
        (folder / "comfy").mkdir(parents=True)
        for name in ("main.py", "requirements.txt"):
            (folder / name).touch()
        (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
        return folder

    return make


@pytest.fixture
def own(
    make_comfyui: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Host:
    """Our own ComfyUI 0.30.0, and a ``.dev`` of its own."""
    host = Host(make_comfyui("0.30.0"), Path(sys.executable), ours=True)
    for module in (other_hosts, host_tests):
        monkeypatch.setattr(module, "own_host", lambda: host)
        monkeypatch.setattr(module, "DEV", tmp_path / "dev")
    monkeypatch.setattr(host_tests, "_versions", lambda python: "Python 3.11.7, torch 2.14.1")
    return host

"""Which ComfyUI the pack loads in, and the one line in the log of an older one."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest

from nodes.host_version import unsupported_host

ROOT = Path(__file__).resolve().parents[3]


def host(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    module = ModuleType("comfyui_version")
    if version is not None:
        module.__dict__["__version__"] = version
    monkeypatch.setitem(sys.modules, "comfyui_version", module)


@pytest.mark.parametrize("version", ["0.12.0", "0.12.3", "0.30.0", "0.100.0", "1.0", "0.31.0rc1"])
def test_newer_hosts_are_used(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    host(monkeypatch, version)
    assert unsupported_host() is None


@pytest.mark.parametrize("version", ["0.3.76", "0.11.1", "0.9", None])
def test_older_hosts_get_one_sentence(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    host(monkeypatch, version)
    said = unsupported_host() or ""
    assert "needs ComfyUI 0.12.0 or newer" in said
    assert (version or "older") in said
    assert "\n" not in said


def test_an_older_host_loads_a_pack_without_nodes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host(monkeypatch, "0.11.1")
    monkeypatch.syspath_prepend(str(ROOT.parent))
    for name in [name for name in sys.modules if name.partition(".")[0] == ROOT.name]:
        monkeypatch.delitem(sys.modules, name)
    with caplog.at_level(logging.WARNING):
        pack = __import__(ROOT.name)
    assert pack.NODE_CLASS_MAPPINGS == {}
    assert not hasattr(pack, "comfy_entrypoint")
    assert len(caplog.records) == 1

"""Which ComfyUI a command runs on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from devkit import host as host_module
from devkit.environment import SetupError
from devkit.host import find_host, version_of


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """A folder that looks like a ComfyUI with a virtual environment."""
    folder = tmp_path / "ComfyUI"
    python = folder / (
        ".venv/Scripts/python.exe" if sys.platform == "win32" else ".venv/bin/python"
    )
    for part in (folder / "comfy", folder / "custom_nodes" / "fitv2", python.parent):
        part.mkdir(parents=True)
    for part in (folder / "main.py", python):
        part.touch()
    write_version(folder, "0.30.0")
    return folder


def write_version(comfyui: Path, version: str) -> None:
    (comfyui / "comfyui_version.py").write_text(f'# made\n__version__ = "{version}"\n')


def test_a_named_comfyui_is_used_with_its_own_python(comfyui: Path) -> None:
    host = find_host(comfyui, None)
    assert (host.folder, host.ours) == (comfyui, False)
    assert host.python.is_relative_to(comfyui / ".venv")
    assert find_host(comfyui, Path("other")).python == Path("other").absolute()


def test_the_comfyui_that_the_pack_lies_in_is_used(
    comfyui: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_module, "ROOT", comfyui / "custom_nodes" / "fitv2")
    assert find_host(None, None).folder == comfyui


def test_a_folder_that_is_no_comfyui_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"is not a ComfyUI: expected main.py"):
        find_host(tmp_path, None)


def test_a_python_without_its_comfyui_is_refused() -> None:
    with pytest.raises(SetupError, match="with --comfyui PATH"):
        find_host(None, Path("python"))


def test_a_comfyui_that_is_too_old_is_refused_in_one_line(comfyui: Path) -> None:
    write_version(comfyui, "0.11.1")
    with pytest.raises(SetupError) as error:
        find_host(comfyui, None)
    assert "needs ComfyUI 0.12.0 or newer, and this is 0.11.1" in str(error.value)
    assert "\n" not in str(error.value)
    (comfyui / "comfyui_version.py").unlink()
    with pytest.raises(SetupError, match="this is of 2024 or older"):
        find_host(comfyui, None)


def test_a_version_is_read_from_its_folder(comfyui: Path) -> None:
    write_version(comfyui, "0.18.2")
    assert version_of(comfyui) == "0.18.2"

"""Which browser the browser tests use."""

from __future__ import annotations

from pathlib import Path

import pytest

from devkit import chromium as chromium_module
from devkit.chromium import chromium, find_chromium
from devkit.environment import SetupError


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return path


def test_the_named_browser_is_used(tmp_path: Path) -> None:
    named = program(tmp_path / "mine")
    program(tmp_path / "chromium")
    assert find_chromium({"FITV2_CHROMIUM": str(named), "PATH": str(tmp_path)}) == named


def test_a_named_browser_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"which is no file\. Expected a browser's program"):
        find_chromium({"FITV2_CHROMIUM": str(tmp_path / "none")})


def test_a_browser_on_the_path_is_found(tmp_path: Path) -> None:
    installed = program(tmp_path / "google-chrome")
    assert find_chromium({"PATH": str(tmp_path)}) == installed


@pytest.mark.parametrize(
    ("system", "folder", "path"),
    [
        ("darwin", "Applications", "Google Chrome.app/Contents/MacOS/Google Chrome"),
        ("win32", "LocalAppData", "Microsoft/Edge/Application/msedge.exe"),
    ],
)
def test_a_browser_in_the_usual_folder_is_found(
    system: str, folder: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chromium_module.sys, "platform", system)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    installed = program(tmp_path / folder / path)
    assert find_chromium({"PATH": "", "LocalAppData": str(tmp_path / "LocalAppData")}) == installed


def test_where_apt_may_not_install_one_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium_module, "find_chromium", lambda variables: None)
    monkeypatch.setattr(chromium_module, "_may_install", lambda: False)
    assert chromium() is None


def test_as_root_on_debian_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, Path("/usr/bin/chromium")])
    steps: list[list[str]] = []
    monkeypatch.setattr(chromium_module, "find_chromium", lambda variables: next(answers))
    monkeypatch.setattr(chromium_module, "_may_install", lambda: True)
    monkeypatch.setattr(
        chromium_module, "run_step", lambda what, command, variables: steps.append(command)
    )
    assert chromium() == Path("/usr/bin/chromium")
    assert [command[1] for command in steps] == ["update", "install"]

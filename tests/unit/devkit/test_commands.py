"""What ``python dev.py test`` passes on to pytest."""

from __future__ import annotations

import ast
import subprocess
import sys
from argparse import Namespace
from configparser import ConfigParser
from pathlib import Path

import pytest

from dev import FAST, pytest_arguments
from devkit.environment import ROOT


@pytest.mark.parametrize(
    ("given", "fast", "expected"),
    [
        ([], False, ["tests"]),
        ([], True, ["-m", FAST, "tests"]),
        (["-k", "rope"], False, ["tests", "-k", "rope"]),
        (["tests/unit/model", "-k", "rope"], False, ["tests/unit/model", "-k", "rope"]),
        (["tests/conftest.py::a"], True, ["-m", FAST, "tests/conftest.py::a"]),
    ],
)
def test_all_tests_run_unless_some_are_named(
    given: list[str], fast: bool, expected: list[str]
) -> None:
    assert pytest_arguments(Namespace(pytest=given, fast=fast)) == expected


def test_fast_leaves_out_every_marked_tier() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "tests" / "pytest.ini", encoding="utf-8")
    markers = settings["pytest"]["markers"].strip().splitlines()
    names = [marker.partition(":")[0] for marker in markers]
    tiers = [name for name in names if "(" not in name]  # those with brackets choose no tier
    assert f"not ({' or '.join(tiers)})" == FAST


@pytest.mark.cases("P8")
def test_an_isolated_python_runs_dev(tmp_path: Path) -> None:
    command = [sys.executable, "-I", ROOT / "dev.py", "--help"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "python dev.py demo" in process.stdout


@pytest.mark.parametrize("version", [(3, 6), (3, 9)])
def test_an_old_python_is_told_which_it_needs(version: tuple[int, int]) -> None:
    source = (ROOT / "dev.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=version)
    assert "from __future__ import annotations" not in source  # 3.6 has none
    code = (
        f"import runpy, sys; sys.version_info = ({version[0]}, {version[1]}, 1)\n"
        f"sys.version = '{version[0]}.{version[1]}.1 (old)'\n"
        f"sys.modules['devkit'] = None\n"  # an import of it would end in a traceback
        f"runpy.run_path({str(ROOT / 'dev.py')!r}, run_name='__main__')\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert line.startswith("dev.py needs Python 3.10 or newer, and ")
    assert line.endswith(f" is Python {version[0]}.{version[1]}.1.")

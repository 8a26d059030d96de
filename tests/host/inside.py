"""Runs Python in a process that has ComfyUI and this pack, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
_START = f"""
import importlib.util, json, sys
from comfy.cli_args import args
args.cpu = True
import comfy.sample, torch
spec = importlib.util.spec_from_file_location(
    "fitv2", {str(ROOT / "__init__.py")!r}, submodule_search_locations=[{str(ROOT)!r}]
)
sys.modules["fitv2"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["fitv2"])
def answer(value):
    print("ANSWER", json.dumps(value))
"""


def run_inside(code: str) -> Any:
    """What ``code`` hands to ``answer``; the pack is the package ``fitv2`` there."""
    if "FITV2_HOST" not in os.environ:
        pytest.skip("needs a ComfyUI: run `python dev.py test`, which fetches one")
    ran = subprocess.run(
        [os.environ["FITV2_HOST_PYTHON"], "-c", _START + textwrap.dedent(code)],
        cwd=os.environ["FITV2_HOST"],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.rpartition("ANSWER ")[2])

"""Runs Python in a process that has ComfyUI and this pack, without a server."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
_START = f"""
import importlib.util, json, sys, traceback
from comfy.cli_args import args
args.cpu = True
import comfy.sample, torch
spec = importlib.util.spec_from_file_location(
    "fitv2", {str(ROOT / "__init__.py")!r}, submodule_search_locations=[{str(ROOT)!r}]
)
sys.modules["fitv2"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["fitv2"])
answers, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    given = []
    try:
        exec(json.loads(line), {{"answer": given.append, "torch": torch}})
        reply = {{"answers": given}}
    except BaseException:
        reply = {{"error": traceback.format_exc()}}
    print(json.dumps(reply), file=answers, flush=True)
"""


@cache
def _process() -> subprocess.Popen[str]:
    """One for all, because it takes seconds to start. It ends with what its input comes from."""
    return subprocess.Popen(
        [os.environ["FITV2_HOST_PYTHON"], "-c", _START],
        cwd=os.environ["FITV2_HOST"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def run_inside(code: str) -> Any:
    """What ``code`` hands to ``answer``; the pack is the package ``fitv2`` there, and torch is.

    All code runs in one process, so it puts back what it changes.
    """
    if "FITV2_HOST" not in os.environ:
        pytest.skip("needs a ComfyUI: run `python dev.py test`, which fetches one")
    process = _process()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(textwrap.dedent(code)) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, f"the process with ComfyUI ended with exit code {process.wait()}"
    reply = json.loads(line)
    assert "error" not in reply, reply["error"]
    (given,) = reply["answers"]
    return given

"""The list of what the pack uses of ComfyUI is complete, and a ComfyUI has all of it."""

from __future__ import annotations

import ast
import json
import os
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

NODES = Path(__file__).parent.parent.parent / "nodes"
INTERNALS = ("comfy", "comfy_execution", "folder_paths", "latent_preview", "server")
SURFACE = runpy.run_path(str(NODES / "host" / "surface.py"))


def internals_used(module: Path) -> Iterator[str]:
    """Dotted names of ComfyUI's internals that a module uses, as far as it spells them out."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0]: alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported |= {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    parts_of_longer = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in parts_of_longer:
            first, *rest = ast.unparse(node).split(".")
            if first in imported and all(part.isidentifier() for part in rest):
                name = ".".join([imported[first], *rest])
                if name.split(".")[0] in INTERNALS:
                    yield name


def test_the_list_names_what_is_used() -> None:
    modules = (NODES / "host").glob("*.py")
    used = {name for module in modules for name in internals_used(module)}
    assert sorted(used) == sorted([*SURFACE["NAMES"], *SURFACE["NEWER_NAMES"]])


@pytest.mark.host
def test_a_comfyui_has_all_that_is_listed() -> None:
    if "FITV2_HOST" not in os.environ:
        pytest.skip("needs a ComfyUI: run `python dev.py test`, which fetches one")
    names = [*SURFACE["NAMES"], *SURFACE["METHODS"]]
    code = (
        "import json, pkgutil, sys\n"
        "from comfy.cli_args import args\n"
        "args.cpu = True\n"
        "import comfy.sample, latent_preview\n"
        "def found(name):\n"
        "    try:\n"
        "        pkgutil.resolve_name(name)\n"
        "    except (AttributeError, ImportError):\n"
        "        return False\n"
        "    return True\n"
        "print(json.dumps([name for name in json.load(sys.stdin) if not found(name)]))"
    )
    ran = subprocess.run(
        [os.environ["FITV2_HOST_PYTHON"], "-c", code],
        cwd=os.environ["FITV2_HOST"],
        input=json.dumps(names),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == []

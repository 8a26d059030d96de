"""What the registry publishes, and the library that ``pip install .`` makes."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.published import published_files

ROOT = Path(__file__).resolve().parents[3]
MAX_PUBLISHED_BYTES = 24_000_000
REFUSED_IMPORTS = {"pickle", "subprocess", "marshal", "ctypes"}
"""The registry looks for code that runs other code; nothing that users install needs any."""


@pytest.fixture(scope="module")
def published() -> list[Path]:
    return published_files()


def test_the_published_pack_is_small_and_holds_what_users_need(published: list[Path]) -> None:
    names = {file.relative_to(ROOT).as_posix() for file in published}
    assert {
        "__init__.py",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "requirements.txt",
        "comfyui_fitv2/model.py",
        "nodes/loader.py",
        "web/fitv2.js",
        "training/train/__main__.py",
        "models/fit/fitv2_flags256.safetensors",
    } <= names
    assert any(name.startswith("web/docs/") for name in names)
    development = ("tests/", "devkit/", "docs/", "benchmarks/", ".ci/", "dev.py")
    assert not [name for name in names if name.startswith(development)]
    assert sum(file.stat().st_size for file in published) < MAX_PUBLISHED_BYTES


def test_the_published_code_imports_nothing_that_runs_other_code(published: list[Path]) -> None:
    found = []
    for file in published:
        if file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                modules = [node.func.id] if node.func.id in ("eval", "exec") else []
            else:
                continue
            refused = REFUSED_IMPORTS | {"eval", "exec"}
            found += [f"{file}: {m}" for m in modules if m.partition(".")[0] in refused]
    assert found == []


@pytest.mark.network
@pytest.mark.slow
def test_the_library_installs_alone_and_runs_the_snippets_of_the_readme(tmp_path: Path) -> None:
    source = tmp_path / "source"  # setuptools leaves files beside what it builds
    shutil.copytree(ROOT / "comfyui_fitv2", source / "comfyui_fitv2")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "comfyui_fitv2/py.typed" in names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "comfyui_fitv2"
    }

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(snippets) == 2
    code = (
        f"import sys\nsys.path.insert(0, {str(wheel)!r})\n"
        + "\n".join(snippets)
        + "\nimport comfyui_fitv2\n"
        + f"assert comfyui_fitv2.__file__.startswith({str(wheel)!r})\n"
        + "assert latents.shape == (1, 4, 32, 48)\n"
        + "assert [tuple(image.shape[1:]) for image in images] == sizes\n"
        + "assert not any(name.split('.')[0] in ('comfy', 'nodes') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=ROOT, check=True)

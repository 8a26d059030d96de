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
from PIL import Image
from support.published import published_files

ROOT = Path(__file__).resolve().parents[3]
MAX_PUBLISHED_BYTES = 32_000_000
REFUSED_IMPORTS = {"code", "ctypes", "marshal", "pickle", "pip", "pty", "shelve", "subprocess"}
REFUSED_CALLS = re.compile(r"(eval|exec|compile|__import__|os\.(system|popen|exec\w+|spawn\w+))")
"""The registry looks for code that runs other code; nothing that users install needs any."""
FILE_ROUTES = re.compile(r".*\b(static|add_static|FileResponse|sendfile)")
"""ComfyUI serves the pack's files, and the pack none of its own."""


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


def test_the_published_code_runs_no_other_code_and_serves_no_files(published: list[Path]) -> None:
    found = []
    for file in published:
        if file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            elif isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if REFUSED_CALLS.fullmatch(name) or FILE_ROUTES.fullmatch(name):
                    found.append(f"{file}: {name}()")
                continue
            else:
                continue
            found += [f"{file}: {m}" for m in modules if m.partition(".")[0] in REFUSED_IMPORTS]
    assert found == []


def test_the_registry_is_told_all_that_it_shows() -> None:
    tomllib = pytest.importorskip("tomllib")  # from Python 3.11 on
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, comfy = facts["project"], facts["tool"]["comfy"]
    assert re.fullmatch(r"[a-z]+([-_.][a-z0-9]+)*\d?", project["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert project["license"] == {"file": "LICENSE"}
    assert project["description"]
    assert project["requires-python"]
    assert {"Repository", "Documentation", "Bug Tracker"} <= project["urls"].keys()
    assert "Operating System :: OS Independent" in project["classifiers"]
    assert {"PublisherId", "DisplayName", "requires-comfyui"} <= comfy.keys()
    # The largest icon that it takes, and the ratio of its banners.
    with Image.open(ROOT / "docs" / Path(comfy["Icon"]).name) as icon:
        assert icon.width <= 800
        assert icon.height <= 400
    with Image.open(ROOT / "docs" / Path(comfy["Banner"]).name) as banner:
        assert banner.width * 9 == banner.height * 21


def test_the_changelog_begins_with_the_version() -> None:
    version = re.search(
        r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE
    )
    heading = re.search(r"^## (.+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert version
    assert heading
    dated = rf"{re.escape(version[1])} \((unreleased|\d{{4}}-\d\d-\d\d)\)"
    assert re.fullmatch(dated, heading[1])


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

"""The pack as people install it: in folders of any name, read-only, elsewhere, and twice.

The other host tests run it through a link.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.graph import Graph
from support.live_client import LiveClient
from support.published import extract_published
from support.workflows import BLUEPRINTS, WORKFLOWS, read

from devkit.host import PACK_NAME, Host
from devkit.server import Server

ODD_NAME = "1 FiT.v2 [größe] (2) 模型"
"""Starts with a digit; has spaces, a dot, brackets, and letters outside ASCII."""
QUOTED_NAME = urllib.parse.quote(ODD_NAME)
TEMPLATES = [file.stem for file in WORKFLOWS]

ISOLATED_PYTHON = """#!{python} -I
# As ComfyUI's portable Python, which its list of paths sends to ComfyUI's folder alone.
import os, runpy, sys
sys.path.append(os.getcwd())
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def host(server: Server) -> Host:
    return Host(Path(os.environ["FITV2_HOST"]), Path(os.environ["FITV2_HOST_PYTHON"]), ours=False)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second folder of custom nodes, and beside it the file that names it to ComfyUI."""
    folder = tmp_path_factory.mktemp("elsewhere") / "custom_nodes"
    folder.mkdir()
    (folder.parent / "paths.yaml").write_text(
        f"elsewhere:\n  base_path: {folder.parent}\n  custom_nodes: custom_nodes\n"
    )
    return folder


def files_in(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of each file, without what Python compiles."""
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def odd_server(
    host: Host, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The published files in a read-only folder with an odd name, for an isolated Python."""
    pack = elsewhere / ODD_NAME
    extract_published(pack)
    entries = [pack, *pack.rglob("*")]
    for path in entries:
        path.chmod(path.stat().st_mode & ~0o222)
    before = files_in(pack)
    python = elsewhere.parent / "isolated_python"
    python.write_text(ISOLATED_PYTHON.format(python=host.python))
    python.chmod(0o755)
    base = tmp_path_factory.mktemp("odd")
    paths = ("--extra-model-paths-config", str(elsewhere.parent / "paths.yaml"))
    isolated = Host(host.folder, python, ours=False)
    with Server(isolated, base, *paths, linked=False) as running:
        yield running
    assert files_in(pack) == before
    for path in entries:  # so that pytest can remove them
        path.chmod(path.stat().st_mode | 0o200)


@pytest.fixture
def odd(odd_server: Server) -> LiveClient:
    return LiveClient(odd_server.url)


def test_it_draws_from_a_read_only_folder_of_any_name(odd: LiveClient, graph: Graph) -> None:
    loader = graph.loader()
    node = graph.ksampler(loader[0], graph.label(loader[0]), graph.size()[0], steps=2)
    saved = graph.add("SaveImage", images=graph.decoded(node[0])[0], filename_prefix="odd")
    run = odd.run(graph.prompt)
    assert odd.fetch(run.outputs[saved.id]["images"][0])[:4] == b"\x89PNG"


def test_scripts_help_and_templates_are_found_in_a_folder_of_any_name(odd: LiveClient) -> None:
    ours = f"/extensions/{QUOTED_NAME}"
    scripts = [path for path in odd.get("/extensions") if path.startswith(ours)]
    assert f"{ours}/fitv2.js" in scripts
    for path in [*scripts, f"{ours}/fitv2.css", f"{ours}/docs/FiTLoader.md"]:
        assert odd.request(path), path
    assert odd.get("/workflow_templates")[ODD_NAME] == TEMPLATES
    for file in WORKFLOWS:
        name = urllib.parse.quote(file.name)
        assert odd.get(f"/api/workflow_templates/{QUOTED_NAME}/{name}") == read(file)


def test_nothing_else_is_served_from_such_a_folder(odd: LiveClient) -> None:
    for path in ("fitv2.js/../../__init__.py", "%2e%2e/__init__.py", "..%2f__init__.py", ""):
        with pytest.raises(OSError, match=r"40[34]"):
            odd.request(f"/extensions/{QUOTED_NAME}/{path}")


def test_a_name_that_hides_the_help_pages_is_told_in_one_line(
    odd_server: Server, elsewhere: Path
) -> None:
    (line,) = told(odd_server)
    assert 'a "." in its name' in line
    assert f"Rename {elsewhere / ODD_NAME} to fitv2" in line


def told(server: Server) -> list[str]:
    """The lines of the log that the pack wrote."""
    return [line for line in server.log().splitlines() if "FiTv2" in line]


def test_of_several_copies_one_is_used_and_a_line_says_which(
    host: Host, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory, odd_server: Server
) -> None:
    base = tmp_path_factory.mktemp("twice")
    used, copies = base / "custom_nodes" / PACK_NAME, [elsewhere / ODD_NAME, elsewhere / PACK_NAME]
    extract_published(elsewhere / PACK_NAME)
    (elsewhere / PACK_NAME / "workflows" / WORKFLOWS[0].name).write_text("{}")
    paths = ("--extra-model-paths-config", str(elsewhere.parent / "paths.yaml"))
    with Server(host, base, *paths) as running:
        client = LiveClient(running.url)
        lines = sorted(line.partition("FiTv2")[2] for line in told(running))
        assert lines == sorted(
            f" is here twice: {used} is used, and {copy} is skipped. Remove one of them and "
            "restart ComfyUI."
            for copy in copies
        )
        for complaint in ("Cannot import", "Error while calling comfy_entrypoint"):
            assert complaint not in running.log()
        modules = {
            info["python_module"]
            for name, info in client.get("/object_info").items()
            if name.startswith("FiT")
        }
        assert modules == {f"custom_nodes.{PACK_NAME}"}
        scripts = [path for path in client.get("/extensions") if path.endswith("/fitv2.js")]
        assert scripts == [f"/extensions/{PACK_NAME}/fitv2.js"]
        templates = client.get("/api/workflow_templates")
        assert templates[PACK_NAME] == TEMPLATES
        assert ODD_NAME not in templates
        first = urllib.parse.quote(WORKFLOWS[0].name)
        assert client.get(f"/api/workflow_templates/{PACK_NAME}/{first}") == read(WORKFLOWS[0])
        blueprints = client.get("/global_subgraphs").values()
        ours = [b["name"] for b in blueprints if b["name"] in {f.stem for f in BLUEPRINTS}]
        assert sorted(ours) == [file.stem for file in BLUEPRINTS]
        assert client.get("/fitv2/solvers")["solvers"]

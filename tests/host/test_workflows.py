"""The shared workflows and blueprints in a real ComfyUI: found, and run as they are."""

from __future__ import annotations

import io
import urllib.parse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.live_client import LiveClient
from support.workflows import BLUEPRINTS, OLD_WORKFLOWS, WORKFLOWS, inside, read

from devkit.host import PACK_NAME
from devkit.templates import written
from devkit.workflow import to_prompt

TEMPLATES = f"/api/workflow_templates/{PACK_NAME}"
SHOWN_NODES = ("SaveImage", "FiTCompareSheet")


def test_the_template_browser_finds_the_workflows_and_their_thumbnails(client: LiveClient) -> None:
    # In the order of learning, by which they are numbered.
    assert client.get("/workflow_templates")[PACK_NAME] == [path.stem for path in WORKFLOWS]
    for path in WORKFLOWS:
        assert client.get(f"{TEMPLATES}/{urllib.parse.quote(path.name)}") == read(path)
        thumbnail = f"{TEMPLATES}/{urllib.parse.quote(path.stem)}.jpg"
        assert Image.open(io.BytesIO(client.request(thumbnail))).width >= 300


def test_the_node_library_finds_the_blueprints(client: LiveClient) -> None:
    found = {
        entry["name"]: id_
        for id_, entry in client.get("/global_subgraphs").items()
        if entry["info"]["node_pack"] == f"custom_nodes.{PACK_NAME}"
    }
    assert sorted(found) == [path.stem for path in BLUEPRINTS]
    for path in BLUEPRINTS:
        text = client.get(f"/global_subgraphs/{found[path.stem]}")["data"]
        assert text == path.read_text(encoding="utf-8")


def test_the_files_are_what_the_command_writes(client: LiveClient) -> None:
    """After a change of nodes: ``python -m devkit.templates``."""
    files = written(client.get("/object_info"))
    assert sorted(files) == sorted([*WORKFLOWS, *BLUEPRINTS])
    for path, file in files.items():
        assert read(path) == file, path.name


def shorten(prompt: dict[str, Any]) -> None:
    """Make a prompt quick to run: few steps, sizes and methods."""
    sizes = [node["inputs"].get("sizes", "") for node in prompt.values()]
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "FiTCompareSheet" and "\n" in "".join(
            sizes
        ):  # the sheet's names of the sizes
            inputs["columns"] = ""
        if "steps" in inputs:
            inputs["steps"] = 2
        for name in inputs.keys() & {"sizes", "methods"}:
            inputs[name] = "\n".join(inputs[name].splitlines()[:2])


def images_of(client: LiveClient, prompt: dict[str, Any]) -> list[Image.Image]:
    """What the nodes that show images made, one per node."""
    shown = [id_ for id_, node in prompt.items() if node["class_type"] in SHOWN_NODES]
    run = client.run(prompt)
    files = [file for id_ in shown for file in run.outputs[id_]["images"]]
    assert len(files) == len(shown)
    return [Image.open(io.BytesIO(client.fetch(file))).convert("RGB") for file in files]


@pytest.mark.parametrize("path", [*WORKFLOWS, *OLD_WORKFLOWS], ids=lambda path: path.stem)
def test_a_shared_workflow_runs_unchanged_except_for_its_length(
    client: LiveClient, path: Path
) -> None:
    prompt = to_prompt(read(path), client.get("/object_info"))
    shorten(prompt)
    images = images_of(client, prompt)
    assert images
    assert all(np.asarray(image).std() > 20 for image in images)


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_a_blueprint_runs_with_the_values_that_it_comes_with(
    client: LiveClient, path: Path
) -> None:
    file = read(path)
    (subgraph,) = file["definitions"]["subgraphs"]
    (end,) = [
        link for link in subgraph["links"] if link["type"] == "IMAGE" and link["target_id"] < 0
    ]
    prompt = to_prompt(inside(file), client.get("/object_info"))
    shorten(prompt)
    given: dict[str, tuple[str, dict[str, Any]]] = {
        "IMAGE": ("EmptyImage", {"width": 192, "height": 128, "batch_size": 1, "color": 255}),
        "MASK": ("SolidMask", {"value": 1.0, "width": 192, "height": 128}),
    }
    for slot in subgraph["inputs"]:
        if slot["type"] not in given:
            continue
        kind, inputs = given[slot["type"]]
        prompt[kind] = {"class_type": kind, "inputs": inputs}
        for link in subgraph["links"]:
            if link["id"] in slot["linkIds"]:
                target = prompt[str(link["target_id"])]
                node = next(one for one in subgraph["nodes"] if one["id"] == link["target_id"])
                target["inputs"][node["inputs"][link["target_slot"]]["name"]] = [kind, 0]
    source = [str(end["origin_id"]), end["origin_slot"]]
    prompt = {id_: node for id_, node in prompt.items() if node["class_type"] != "SaveImage"}
    prompt["shown"] = {
        "class_type": "SaveImage",
        "inputs": {"images": source, "filename_prefix": "blueprint"},
    }
    assert all(np.asarray(image).std() > 20 for image in images_of(client, prompt))

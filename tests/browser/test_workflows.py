"""Every shared workflow as a person meets it: opened, looked at and run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from browser.pages import Page
from PIL import Image, ImageStat
from playwright.sync_api import FloatRect

from devkit.environment import ROOT
from devkit.workflow import to_prompt

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
SHOW_PICTURES = ("SaveImage", "PreviewImage", "FiTCompareSheet")
READABLE_SCALE = {"1 One flag, any shape": 0.65}
"""How large the first workflow that a person opens is at least: there, text is 9 px high."""
WHOLE_SCALE = {"classic": 0.572, "nodes2": 0.53}
"""How large the others are at least. The classic canvas draws no text that is less than 8 px."""
TOLERANCE = 2.0
"""CSS pixels by which boxes may overlap; a border is one or two."""

workflows = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)


@workflows
def test_it_opens_whole_and_tidy_and_run_sends_what_the_devkit_sends(
    page: Page, file: Path
) -> None:
    page.load(file)
    known = page.js("() => Object.keys(LiteGraph.registered_node_types)")
    assert [node.kind for node in page.nodes() if node.kind not in known] == []
    assert page.toasts() == []
    assert page.scale() >= READABLE_SCALE.get(file.stem, WHOLE_SCALE[page.renderer])
    assert untidy(page) == []
    workflow = json.loads(file.read_text(encoding="utf-8"))
    ours = to_prompt(workflow, page.client.get("/object_info"))
    assert inputs_of(page.prompt()) == inputs_of(ours)


@workflows
def test_it_draws_pictures(page: Page, file: Path) -> None:
    page.load(file)
    make_quick(page)
    run = page.run()
    drawn = [node for node in page.nodes() if node.kind in SHOW_PICTURES]
    assert drawn
    for node in drawn:
        pictures = [
            Image.open(io.BytesIO(page.client.fetch(file)))
            for file in run.outputs[str(node.id)]["images"]
        ]
        for picture in pictures:
            assert max(ImageStat.Stat(picture.convert("RGB")).stddev) > 5, "one flat colour"
        if node.kind == "SaveImage" and not node.is_collapsed():
            assert node.picture_sizes() == [list(picture.size) for picture in pictures]
    assert untidy(page) == [], "nodes grew with what they show"


@pytest.mark.newest_frontend
def test_a_new_sweep_keeps_its_seed_and_a_new_sampler_does_not(page: Page) -> None:
    control = "control_after_generate"
    for title, after_run in (("FiT Sweep Sampler", "fixed"), ("FiT Sampler", "randomize")):
        assert page.add(title).value(control) == after_run

    page.node("FiTSweepSampler").set(control, "increment")
    page.load(page.workflow())
    assert page.node("FiTSweepSampler").value(control) == "increment"


def make_quick(page: Page) -> None:
    """Draw in two steps, and of a sweep's sizes and methods the first two."""
    sweeps = page.nodes("FiTResolutionSweep")
    several_sizes = any("\n" in sweep.values()["sizes"] for sweep in sweeps)
    for node in page.nodes():
        values = node.values()
        for name in values.keys() & {"seed", "noise_seed"}:
            # The second renderer shows what ComfyUI has drawn for the first.
            node.set(name, 1)
        if "steps" in values and isinstance(values["steps"], int):
            node.set("steps", 2)
        for name in values.keys() & {"sizes", "methods"}:
            node.set(name, "\n".join(values[name].splitlines()[:2]))
        if node.kind == "FiTCompareSheet" and several_sizes:
            node.set("columns", "")  # the sheet's names of the sizes


def inputs_of(prompt: dict[str, Any]) -> dict[str, Any]:
    return {id: (node["class_type"], node["inputs"]) for id, node in prompt.items()}


def untidy(page: Page) -> list[str]:
    """Nodes that cover each other, or that lie partly outside of their group."""
    boxes = [(f"{node.title} ({node.id})", node.box()) for node in page.nodes()]
    groups = page.groups()
    problems = []
    for number, (name, box) in enumerate(boxes):
        for other, other_box in boxes[number + 1 :]:
            if _overlap(box, other_box):
                problems.append(f"{name} and {other} overlap")
        for title, group in groups.items():
            if _overlap(box, group) and not _inside(box, group):
                problems.append(f"{name} sticks out of the group {title}")
    return problems


def _overlap(one: FloatRect, other: FloatRect) -> bool:
    return (
        min(_right(one), _right(other)) - max(one["x"], other["x"]) > TOLERANCE
        and min(_bottom(one), _bottom(other)) - max(one["y"], other["y"]) > TOLERANCE
    )


def _inside(box: FloatRect, group: FloatRect) -> bool:
    return (
        box["x"] >= group["x"] - TOLERANCE
        and box["y"] >= group["y"] - TOLERANCE
        and _right(box) <= _right(group) + TOLERANCE
        and _bottom(box) <= _bottom(group) + TOLERANCE
    )


def _right(box: FloatRect) -> float:
    return box["x"] + box["width"]


def _bottom(box: FloatRect) -> float:
    return box["y"] + box["height"]

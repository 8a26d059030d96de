"""Our nodes in the hands of a person who edits: undo, copies, refreshes, subgraphs, two tabs."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
from browser.nodes import Node
from browser.pages import Page
from PIL import Image

from devkit.client import Run
from devkit.environment import ROOT

STARTER = "1 One flag, any shape"
WITH_EXTRAPOLATION = "5 Seven aspect ratios compared"


@pytest.fixture
def starter(page: Page) -> Page:
    """The first shared workflow, quick to run."""
    page.load(STARTER)
    sampler(page).set("steps", 2)
    sampler(page).set("control_after_generate", "fixed")
    return page


def sampler(page: Page) -> Node:
    return page.node("FiTSampler")


def pixels(page: Page, run: Run) -> Any:
    """The only picture of a run, (H, W, 3) in [0, 255]."""
    (file,) = run.files()
    return np.asarray(Image.open(io.BytesIO(page.client.fetch(file))).convert("RGB"))


def kinds(page: Page) -> Counter[str]:
    return Counter(node.kind for node in page.nodes())


@pytest.mark.newest_frontend
def test_a_deleted_node_comes_back_by_undo_with_its_values_and_links(starter: Page) -> None:
    before = starter.prompt()
    starter.node("FiTResolution").click_title()
    assert [node.kind for node in starter.selected()] == ["FiTResolution"]
    starter.key("Delete")
    starter.expect_nodes("FiTResolution", 0)
    starter.key("Control+z")
    starter.expect_nodes("FiTResolution", 1)
    assert starter.prompt() == before
    starter.key("Control+y")
    starter.expect_nodes("FiTResolution", 0)


@pytest.mark.newest_frontend
def test_a_pasted_node_has_the_values_of_its_original(starter: Page) -> None:
    original = starter.node("FiTResolution")
    original.set("tokens", 144)
    original.click_title()
    starter.key("Control+c")
    starter.key("Control+v")
    one, other = starter.expect_nodes("FiTResolution", 2)
    assert one.values() == other.values()
    assert other.value("tokens") == 144


@pytest.mark.newest_frontend
def test_a_refresh_keeps_unsaved_work(starter: Page) -> None:
    starter.node("FiTClassLabel").set("text", "Sweden")
    starter.node("FiTClassLabel").click_title()  # what a click ends is kept for undo, and as draft
    before = starter.prompt()
    starter.refresh()
    assert starter.node("FiTClassLabel").value("text") == "Sweden"
    assert starter.prompt() == before


def test_a_run_goes_on_through_a_refresh_and_its_picture_appears(starter: Page) -> None:
    sampler(starter).set("seed", 4 if starter.renderer == "classic" else 7)
    starter.node("FiTClassLabel").click_title()
    starter.keep_draft()
    starter.client.post("/fit_test/hold", {})
    try:
        prompt_id = starter.queue()
        starter.reload()
        starter.expect_nodes("SaveImage", 1)
        assert starter.client.finished(prompt_id) is None
    finally:
        starter.client.post("/fit_test/go", {})
    assert starter.client.wait(prompt_id).files()
    assert starter.node("SaveImage").picture_sizes()


@pytest.mark.newest_frontend
def test_nodes_in_a_subgraph_draw_the_same_picture(starter: Page) -> None:
    sampler(starter).set("seed", 5 if starter.renderer == "classic" else 6)
    expected = pixels(starter, starter.run())
    inner = [starter.node(kind) for kind in ("FiTLoader", "FiTClassLabel", "FiTResolution")]
    starter.select(*inner, sampler(starter))
    starter.command("Comfy.Graph.ConvertToSubgraph")
    assert kinds(starter)["FiTSampler"] == 0
    inside = Counter(node["class_type"] for node in starter.prompt().values())
    assert inside["FiTSampler"] == 1
    # A run of nodes with new ids is not answered from ComfyUI's cache.
    assert np.array_equal(pixels(starter, starter.run()), expected)


def test_two_tabs_draw_what_each_asks_for(starter: Page) -> None:
    other = starter.second_tab()
    other.load(STARTER)
    runs = {}
    for page, ratio in ((starter, "1:1"), (other, "2:1")):
        sampler(page).set("steps", 2)
        page.node("FiTResolution").set("aspect_ratio", ratio)
    queued = {page: page.queue() for page in (starter, other)}
    for page, prompt_id in queued.items():
        page.wait_for("id => window.endedRuns[id]", prompt_id, 60_000)
        runs[page] = page.client.wait(prompt_id)
    for page in (starter, other):
        height, width, _ = pixels(page, runs[page]).shape
        assert page.node("SaveImage").picture_sizes() == [[width, height]]
        assert (width == height) == (page is starter)


def test_a_bypassed_extrapolation_is_left_out(page: Page) -> None:
    page.load(ROOT / "workflows" / f"{WITH_EXTRAPOLATION}.json")
    loader, extrapolation = page.node("FiTLoader"), page.node("FiTExtrapolation")
    extrapolation.click_title()
    page.key("Control+b")
    page.wait_for("id => app.graph.getNodeById(id).mode === 4", extrapolation.id)
    prompt = page.prompt()
    assert str(extrapolation.id) not in prompt
    model_inputs = [
        node["inputs"]["model"] for node in prompt.values() if "model" in node["inputs"]
    ]
    assert {tuple(link) for link in model_inputs} == {(str(loader.id), 0)}

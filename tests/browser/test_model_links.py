"""A widget finds the model that feeds its node, whatever lies between."""

from __future__ import annotations

from typing import Any

import pytest
from browser.pages import Page

LOADED = {"checkpoint": "fitv2_flags256.safetensors", "preset": "auto"}

_GRAPH = """async kinds => {
  const graph = app.graph;
  const nodes = kinds.map((kind, i) => {
    const node = LiteGraph.createNode(kind);
    node.pos = [40 + 320 * i, 80];
    graph.add(node);
    if (i) graph.nodes.at(-2).connect(0, node, 0);
    return node.id;
  });
  return nodes;
}"""
_MODEL = """async id => {
  const { modelOf } = await import("/extensions/fitv2/host/frontend.js");
  for (const graph of [app.graph, ...app.graph.subgraphs.values()])
    for (const node of graph.nodes) if (node.type === id || node.id === id) return modelOf(node);
}"""


def chain(page: Page, *kinds: str) -> list[int]:
    """Nodes in a row, each fed by the first output of the one before."""
    page.clear()
    return page.js(_GRAPH, kinds)


def model_of(page: Page, node: int | str) -> dict[str, Any] | None:
    return page.js(_MODEL, node)


@pytest.mark.newest_frontend
def test_a_model_is_found_through_all_that_lies_between(page: Page) -> None:
    kinds = ("FiTLoader", "LoraLoaderModelOnly", "Reroute", "FiTExtrapolation", "FiTGuidance")
    *between, last = chain(page, *kinds, "FiTResolution")
    assert model_of(page, last) == LOADED

    mode = "([id, mode]) => { app.graph.getNodeById(id).mode = mode; }"
    for bypassed in between[1:]:
        page.js(mode, [bypassed, 4])
    assert model_of(page, last) == LOADED

    page.js(mode, [between[0], 2])  # muted
    assert model_of(page, last) is None


@pytest.mark.newest_frontend
def test_a_model_is_found_into_and_out_of_subgraphs(page: Page) -> None:
    to_subgraph = "id => { app.graph.convertToSubgraph(new Set([app.graph.getNodeById(id)])); }"
    loader, _, last = chain(page, "FiTLoader", "FiTGuidance", "FiTResolution")
    page.js(to_subgraph, loader)
    assert model_of(page, last) == LOADED

    _, guidance, _ = chain(page, "FiTLoader", "FiTGuidance", "FiTResolution")
    page.js(to_subgraph, guidance)
    assert model_of(page, "FiTResolution") == LOADED

    _, _, last = chain(page, "FiTLoader", "FiTGuidance", "FiTResolution")
    page.js(to_subgraph, last)
    assert model_of(page, "FiTResolution") == LOADED


def test_a_training_run_is_a_model_too(page: Page) -> None:
    run, last = chain(page, "FiTTrainingRun", "FiTGuidance")
    page.js("id => { app.graph.getNodeById(id).widgets[0].value = 'runs/mine'; }", run)
    assert model_of(page, last) == {"run": "runs/mine", "average": ""}
    (alone,) = chain(page, "FiTGuidance")
    assert model_of(page, alone) is None

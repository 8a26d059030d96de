"""A canvas as a blueprint: the file of a workflow with one node that holds it as a subgraph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .canvas import Canvas, Node, Output, lasting_id

INPUT_NODE, OUTPUT_NODE = -10, -20
"""Ids by which links inside a subgraph mean its own inputs and outputs."""
LINK_PARTS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
CATEGORY = "FiT"

Targets = Sequence[tuple[Node, str]]
"""Inputs of nodes inside, widgets or slots, that one input of the blueprint feeds."""


def blueprint(
    canvas: Canvas,
    name: str,
    description: str,
    aliases: Sequence[str],
    inputs: Mapping[str, Targets],
    outputs: Mapping[str, Output],
) -> dict[str, Any]:
    """The file. ``inputs`` and ``outputs`` are those of the outside, by their names there."""
    nodes = canvas.saved_nodes()
    own_id = lasting_id("subgraphs", name)
    slots = [
        _input(canvas, nodes, number, outside, targets)
        for number, (outside, targets) in enumerate(inputs.items())
    ]
    results = [
        _output(canvas, nodes, number, outside, output)
        for number, (outside, output) in enumerate(outputs.items())
    ]
    right = max(node.at[0] + node.size[0] for node in canvas.nodes)
    subgraph = {
        "id": own_id,
        "version": 1,
        "state": {
            "lastGroupId": 0,
            "lastNodeId": len(nodes),
            "lastLinkId": len(canvas.links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": name,
        "category": CATEGORY,
        "description": description,
        "inputNode": {"id": INPUT_NODE, "bounding": [-240, 0, 120, 40 + 20 * len(slots)]},
        "outputNode": {"id": OUTPUT_NODE, "bounding": [right + 120, 0, 120, 60]},
        "inputs": [
            {"id": lasting_id(own_id, slot["name"])}
            | {key: slot[key] for key in ("name", "type", "linkIds")}
            for slot in slots
        ],
        "outputs": [
            {"id": lasting_id(own_id, "out", result["name"])} | result for result in results
        ],
        "widgets": [],
        "nodes": nodes,
        "groups": [],
        "links": [dict(zip(LINK_PARTS, link, strict=True)) for link in canvas.links],
        "extra": {},
    }
    node = {
        "id": 1,
        "type": own_id,
        "pos": [0, 0],
        "size": [360, 120 + 30 * len(slots)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "title": name,
        "inputs": [
            {"name": slot["name"], "type": slot["type"], "link": None}
            | ({"widget": {"name": slot["name"]}} if slot["is_widget"] else {})
            for slot in slots
        ],
        "outputs": [{"name": out["name"], "type": out["type"], "links": []} for out in results],
        "properties": {},
        "widgets_values": [],
    }
    return {
        "id": lasting_id("blueprints", name),
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [subgraph]},
        "extra": {"BlueprintDescription": description, "BlueprintSearchAliases": list(aliases)},
    }


def _input(
    canvas: Canvas, nodes: list[dict[str, Any]], number: int, name: str, targets: Targets
) -> dict[str, Any]:
    """An input of the subgraph, after linking it to its targets."""
    links, kind, is_widget = [], "*", False
    for node, inside in targets:
        inputs = nodes[node.id - 1]["inputs"]
        place, slot = next((i, slot) for i, slot in enumerate(inputs) if slot["name"] == inside)
        kind, is_widget = slot["type"], "widget" in slot
        slot["link"] = canvas.add_link(INPUT_NODE, number, node.id, place, kind)
        links.append(slot["link"])
    return {"name": name, "type": kind, "linkIds": links, "is_widget": is_widget}


def _output(
    canvas: Canvas, nodes: list[dict[str, Any]], number: int, name: str, output: Output
) -> dict[str, Any]:
    """An output of the subgraph, after linking it to its source."""
    source = nodes[output.node.id - 1]["outputs"][output.slot]
    link = canvas.add_link(output.node.id, output.slot, OUTPUT_NODE, number, source["type"])
    source["links"].append(link)
    return {"name": name, "type": source["type"], "linkIds": [link]}

"""What people see of the shared workflows before they run. That they run: tests/host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.workflows import BLUEPRINTS, WORKFLOWS, inside, read

TITLE = 30
MADE_BY_JAVASCRIPT = {
    "class_picker": ("FiTClassLabel", "FiTResolutionSweep"),
    "shape": ("FiTResolution",),
}
"""Widgets that no file lists, by name, and the nodes that have them."""
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
every_blueprint = pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)

Box = tuple[float, float, float, float]


def box_of(node: dict[str, Any]) -> Box:
    """Left, upper, right and lower end of a node with its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + (0 if node["flags"].get("collapsed") else height)


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def group_boxes(workflow: dict[str, Any]) -> Iterator[Box]:
    for x, y, width, height in (group["bounding"] for group in workflow["groups"]):
        yield x, y, x + width, y + height


def test_the_names_of_the_workflows_number_them() -> None:
    assert [path.stem.partition(" ")[0] for path in WORKFLOWS] == [
        str(number + 1) for number in range(len(WORKFLOWS))
    ]


def test_the_thumbnails_are_squares_of_one_size_and_all_different() -> None:
    thumbnails = [Image.open(path.with_suffix(".jpg")) for path in WORKFLOWS]
    assert {image.size for image in thumbnails} == {(512, 512)}
    assert len({image.tobytes() for image in thumbnails}) == len(thumbnails)


@every_workflow
def test_no_node_covers_another_or_the_edge_of_a_group(path: Path) -> None:
    workflow = read(path)
    boxes = {(node["id"], node["type"]): box_of(node) for node in workflow["nodes"]}
    for name, box in boxes.items():
        assert [other for other in boxes if other != name and overlap(box, boxes[other])] == []
        for group in group_boxes(workflow):
            is_inside = (
                group[0] <= box[0]
                and group[1] <= box[1]
                and box[2] <= group[2]
                and box[3] <= group[3]
            )
            assert is_inside or not overlap(box, group), name
    groups = list(group_boxes(workflow))
    for number, group in enumerate(groups):
        assert not any(overlap(group, other) for other in groups[number + 1 :])


@every_workflow
def test_a_note_explains_the_workflow_without_inline_code(path: Path) -> None:
    notes = [node for node in read(path)["nodes"] if node["type"] == "MarkdownNote"]
    (note,) = notes
    (text,) = note["widgets_values"]
    assert "`" not in text  # Nodes 2.0 draws it blue on blue-grey
    assert "**" in text


@every_workflow
def test_a_second_run_draws_something_else_and_a_comparison_what_has_changed(path: Path) -> None:
    changes = {
        (node["type"], value)
        for node in read(path)["nodes"]
        for value in node["widgets_values"]
        if value in ("fixed", "randomize", "increment", "decrement")
    }
    assert changes
    for kind, change in changes:
        compares = kind in ("FiTSweepSampler", "PrimitiveInt")
        assert change == ("fixed" if compares else "randomize"), kind


@every_workflow
def test_app_mode_shows_widgets_and_results_that_exist(path: Path) -> None:
    workflow = read(path)
    nodes = {str(node["id"]): node for node in workflow["nodes"]}
    app = workflow["extra"]["linearData"]
    assert app["inputs"]
    for id_, name in app["inputs"]:
        if nodes[id_]["type"] in MADE_BY_JAVASCRIPT.get(name, ()):
            continue
        slots = [slot for slot in nodes[id_]["inputs"] if slot.get("widget") == {"name": name}]
        assert [slot["link"] for slot in slots] == [None], name
    assert app["outputs"]
    for id_ in app["outputs"]:
        assert nodes[id_]["type"] in ("SaveImage", "FiTCompareSheet")


def test_the_first_workflow_has_seven_nodes_that_are_readable_on_a_small_screen() -> None:
    workflow = read(WORKFLOWS[0])
    nodes = [node for node in workflow["nodes"] if node["type"] != "MarkdownNote"]
    assert len(nodes) == 7
    boxes = [box_of(node) for node in workflow["nodes"]]
    width = max(box[2] for box in boxes) - min(box[0] for box in boxes)
    height = max(box[3] for box in boxes) - min(box[1] for box in boxes)
    # At 70 % on 1600 × 1000 pixels, of which the menus take 60 and 40.
    assert width <= 1540 / 0.7
    assert height <= 960 / 0.7


@every_blueprint
def test_a_blueprint_is_one_node_whose_inputs_and_outputs_lead_inside(path: Path) -> None:
    file = read(path)
    (node,) = file["nodes"]
    (subgraph,) = file["definitions"]["subgraphs"]
    assert node["type"] == subgraph["id"]
    assert node["title"] == subgraph["name"] == path.stem
    assert len(subgraph["description"]) > 30
    assert file["extra"]["BlueprintSearchAliases"]
    links = {link["id"]: link for link in subgraph["links"]}
    inner = {one["id"]: one for one in subgraph["nodes"]}
    for side, outer, own_end in (("inputs", -10, "origin"), ("outputs", -20, "target")):
        assert [slot["name"] for slot in node[side]] == [slot["name"] for slot in subgraph[side]]
        for number, slot in enumerate(subgraph[side]):
            assert slot["linkIds"]
            for id_ in slot["linkIds"]:
                assert links[id_][f"{own_end}_id"] == outer
                assert links[id_][f"{own_end}_slot"] == number
                assert links[id_]["type"] == slot["type"]
    for link in links.values():
        if link["target_id"] > 0:
            assert inner[link["target_id"]]["inputs"][link["target_slot"]]["link"] == link["id"]
    assert len(inside(file)["nodes"]) == len(inner)

"""Editor files to server prompts. That the shared ones run is tested in tests/host."""

import copy

import pytest

from devkit.workflow import WorkflowError, to_prompt

INFO = {
    "Source": {
        "display_name": "A Source",
        "input": {"required": {"size": ["INT", {}]}},
        "input_order": {"required": ["size"]},
    },
    "Draw": {
        "display_name": "Draw",
        "input": {
            "required": {"model": ["MODEL"], "seed": ["INT", {}], "mode": [["a", "b"]]},
            "optional": {"strength": ["FLOAT", {}]},
        },
        "input_order": {"required": ["model", "seed", "mode"], "optional": ["strength"]},
    },
}
WORKFLOW = {
    "nodes": [
        {"id": 1, "type": "Source", "widgets_values": [3]},
        {"id": 2, "type": "MarkdownNote", "widgets_values": ["read me"]},
        {
            "id": 3,
            "type": "Draw",
            "title": "Mine",
            "inputs": [{"name": "model", "link": 7}, {"name": "strength", "link": None}],
            "widgets_values": [42, "fixed", "b", 0.5],
        },
    ],
    "links": [[7, 1, 0, 3, 0, "MODEL"]],
}


def test_links_and_widgets_get_their_names() -> None:
    assert to_prompt(WORKFLOW, INFO) == {
        "1": {"class_type": "Source", "inputs": {"size": 3}, "_meta": {"title": "A Source"}},
        "3": {
            "class_type": "Draw",
            "inputs": {"seed": 42, "mode": "b", "strength": 0.5, "model": ["1", 0]},
            "_meta": {"title": "Mine"},
        },
    }


def test_a_linked_widget_takes_the_link() -> None:
    workflow = copy.deepcopy(WORKFLOW)
    workflow["nodes"][2]["inputs"][1]["link"] = 8
    workflow["links"].append([8, 1, 0, 3, 1, "FLOAT"])
    assert to_prompt(workflow, INFO)["3"]["inputs"]["strength"] == ["1", 0]


def test_an_optional_widget_that_is_newer_than_the_file_is_left_to_the_node() -> None:
    workflow = copy.deepcopy(WORKFLOW)
    workflow["nodes"][2]["widgets_values"].pop()
    assert to_prompt(workflow, INFO)["3"]["inputs"] == {
        "seed": 42,
        "mode": "b",
        "model": ["1", 0],
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "Gone"}, "Node 3 is a Gone, which this ComfyUI does not have"),
        ({"mode": 4}, r"Node 3 \(Draw\) is muted or bypassed"),
        ({"widgets_values": [42, "fixed"]}, "2 widget values and none for mode"),
        ({"widgets_values": [42, "fixed", "b", 0.5, 1]}, "5 widget values for 4 widgets"),
    ],
)
def test_what_cannot_be_turned_is_explained(change: dict, message: str) -> None:
    workflow = copy.deepcopy(WORKFLOW)
    workflow["nodes"][2] |= change
    with pytest.raises(WorkflowError, match=message):
        to_prompt(workflow, INFO)

"""Shared workflow JSONs (the format that the editor saves) to prompts (the format that the server runs).

It does for the nodes that our workflows use what the editor does on "Queue": walk the links, name the widgets' values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_ONLY_IN_EDITOR = ("Note", "MarkdownNote")
_MUTED, _BYPASSED = 2, 4
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


class WorkflowError(ValueError):
    """A workflow that cannot be turned into a prompt."""


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """A prompt in API format. ``object_info`` is the server's. Raises ``WorkflowError`` on a node it does not know."""
    links = {link[0]: (str(link[1]), link[2]) for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in _ONLY_IN_EDITOR:
            continue
        if node["type"] not in object_info:
            raise WorkflowError(
                f"Node {node['id']} is a {node['type']}, which this ComfyUI does not have."
            )
        if node.get("mode") in (_MUTED, _BYPASSED):
            raise WorkflowError(
                f"Node {node['id']} ({node['type']}) is muted or bypassed; shared workflows must not be."
            )
        inputs = dict(_widget_values(node, object_info[node["type"]]))
        inputs.update(
            {
                i["name"]: list(links[i["link"]])
                for i in node.get("inputs", [])
                if i.get("link") is not None
            }
        )
        title = node.get("title", object_info[node["type"]]["display_name"])
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": title},
        }
    return prompt


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of a node's widgets. The file has the values alone, in the order of the node's inputs."""
    values = list(node.get("widgets_values", []))
    position = 0
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, *rest = info["input"][group][name]
            options = rest[0] if rest else {}
            if not (isinstance(kind, list) or kind in WIDGET_TYPES) or options.get("forceInput"):
                continue
            if position >= len(values):
                raise WorkflowError(
                    f"Node {node['id']} ({node['type']}) has {len(values)} widget values and none for {name}."
                )
            yield name, values[position]
            # The editor puts a "randomize after each run" choice behind such a widget.
            position += (
                2
                if options.get("control_after_generate")
                or (name in ("seed", "noise_seed") and kind == "INT")
                else 1
            )
    if position != len(values):
        raise WorkflowError(
            f"Node {node['id']} ({node['type']}) has {len(values)} widget values for {position} widgets."
        )

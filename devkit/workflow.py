"""Workflow JSONs, as the editor saves them, to prompts, as the server runs them.

The editor does the same on "Queue": it follows the links and names the widgets' values. This
covers the nodes that our shared workflows use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_ONLY_IN_EDITOR = ("Note", "MarkdownNote")
_MUTED, _BYPASSED = 2, 4
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


class WorkflowError(ValueError):
    """A workflow that cannot be turned into a prompt."""


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow JSON as the editor saves it. Raises ``WorkflowError`` for any other file."""
    try:
        workflow = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WorkflowError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(workflow, dict) or not isinstance(workflow.get("nodes"), list):
        raise WorkflowError(f"{path} is not a workflow: it has no list of nodes.")
    return workflow


def to_prompt(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The prompt, in API format, of a workflow. ``object_info`` is the server's.

    Raises ``WorkflowError`` for an unknown node, for widgets that do not fit the node, and for what
    is no workflow.
    """
    try:
        return _prompt_of(workflow, object_info)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, WorkflowError):
            raise
        raise WorkflowError(f"The workflow is damaged: {type(error).__name__}: {error}.") from None


def _prompt_of(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
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
                f"Node {node['id']} ({node['type']}) is muted or bypassed;"
                " nodes of shared workflows must not be."
            )
        inputs = dict(_widget_values(node, object_info[node["type"]]))
        for linked in node.get("inputs", []):
            if linked.get("link") is not None:
                inputs[linked["name"]] = list(links[linked["link"]])
        title = node.get("title", object_info[node["type"]]["display_name"])
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": title},
        }
    return prompt


def _widget_values(node: dict[str, Any], info: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of a node's widgets; the file has only the values, in input order."""
    values = list(node.get("widgets_values", []))
    what = f"Node {node['id']} ({node['type']}) has {len(values)} widget values"
    position = 0
    for group in ("required", "optional"):
        for name in info["input_order"].get(group, []):
            kind, *rest = info["input"][group][name]
            options = rest[0] if rest else {}
            if not (isinstance(kind, list) or kind in WIDGET_TYPES) or options.get("forceInput"):
                continue
            if position >= len(values):
                if group == "optional":  # newer than the file: the node's default holds
                    continue
                raise WorkflowError(f"{what} and none for {name}.")
            yield name, values[position]
            is_seed = name in ("seed", "noise_seed") and kind == "INT"
            # The editor stores a "control after generate" choice after such a widget.
            position += 2 if is_seed or options.get("control_after_generate") else 1
    if position != len(values):
        raise WorkflowError(f"{what} for {position} widgets.")

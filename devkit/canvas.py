"""Workflows as the editor saves them, written in a few lines: nodes, links, columns and groups."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .workflow import WIDGET_TYPES

GAP = 60
"""Between two nodes of a column, for the title of the lower one."""
MARGIN = 20
TITLE = 30
GROUP_TITLE = 40
BETWEEN_GROUPS = 2 * MARGIN + GROUP_TITLE + TITLE
"""Between the lowest node of a group and the highest of the group below it."""
_COMPARE = ("FiTSweepSampler", "PrimitiveInt")
"""The nodes that seed a comparison."""
OPTIONAL_SLOT = 7
"""The editor's number for the shape of a slot that may stay empty."""
NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}
GROUP_COLOUR = "#3f789e"


@dataclass(eq=False)
class Node:
    """A node on a canvas. ``node[0]`` and ``node["width"]`` are outputs, to be linked."""

    id: int
    kind: str
    info: dict[str, Any]
    title: str | None
    inputs: dict[str, Any]
    size: tuple[int, int]
    at: tuple[int, int] = (0, 0)
    collapsed: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    """Names that its inputs are shown by, in place of their own."""

    def __getitem__(self, slot: int | str) -> Output:
        return Output(self, slot if isinstance(slot, int) else self.outputs.index(slot))

    @property
    def bottom(self) -> int:
        """The lower end of its body; a collapsed node has only its title."""
        return self.at[1] + (0 if self.collapsed else self.size[1])

    @property
    def outputs(self) -> list[str]:
        return self.info["output_name"]


@dataclass(frozen=True)
class Output:
    node: Node
    slot: int


class Canvas:
    """A workflow that is being written. ``object_info`` is the server's description of its nodes.

    ``sizes`` are widths and heights of nodes by type, in units of the editor.
    """

    def __init__(self, object_info: dict[str, Any], sizes: dict[str, tuple[int, int]]) -> None:
        self._info = object_info
        self._sizes = sizes
        self.nodes: list[Node] = []
        self.links: list[list[Any]] = []
        self.groups: list[dict[str, Any]] = []
        self.app: dict[str, Any] | None = None

    def add(self, kind: str, called: str | None = None, /, **inputs: Any) -> Node:
        """A node, ``called`` as it is or by a title of its own.

        ``inputs`` are values of widgets, and outputs of other nodes; the others keep their
        defaults. Raises ``ValueError`` for an input that the node does not have.
        """
        info = self._info[kind]
        known = {name for group in info["input_order"].values() for name in group}
        # A list that grows is one input in the server's description, and "images.image0" in files.
        if unknown := {name.partition(".")[0] for name in inputs} - known:
            raise ValueError(f"{kind} has no input {', '.join(sorted(unknown))}.")
        return self._place(kind, info, called, inputs, self._sizes.get(kind, (300, 80)))

    def note(self, text: str, size: tuple[int, int]) -> Node:
        return self._place("MarkdownNote", {"output_name": []}, "How to use", {"": text}, size)

    def _place(
        self,
        kind: str,
        info: dict[str, Any],
        title: str | None,
        inputs: dict[str, Any],
        size: tuple[int, int],
    ) -> Node:
        node = Node(len(self.nodes) + 1, kind, info, title, inputs, size)
        self.nodes.append(node)
        return node

    def column(self, x: int, y: int, *nodes: Node) -> int:
        """Nodes below each other from (x, y), the corner of the first one's body.

        Returns the lower end of the last.
        """
        for node in nodes:
            node.at = (x, y)
            y = node.bottom + GAP
        return y - GAP

    def group(self, title: str, nodes: Sequence[Node]) -> None:
        """A frame around nodes, so that none sticks out."""
        left = min(node.at[0] for node in nodes) - MARGIN
        top = min(node.at[1] for node in nodes) - TITLE - GROUP_TITLE
        right = max(node.at[0] + node.size[0] for node in nodes) + MARGIN
        bottom = max(node.bottom for node in nodes) + MARGIN
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [left, top, right - left, bottom - top],
                "color": GROUP_COLOUR,
                "font_size": 24,
                "flags": {},
            }
        )

    def as_app(self, inputs: Iterable[tuple[Node, str]], outputs: Iterable[Node]) -> None:
        """What App mode shows: widgets, and the nodes whose images are the results."""
        self.app = {
            "inputs": [[str(node.id), name] for node, name in inputs],
            "outputs": [str(node.id) for node in outputs],
        }

    def workflow(self, name: str) -> dict[str, Any]:
        """The file of the editor; the same ``name`` gets the same id."""
        nodes = self.saved_nodes()
        return {
            "id": lasting_id("workflows", name),
            "revision": 0,
            "last_node_id": len(nodes),
            "last_link_id": len(self.links),
            "nodes": nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {} if self.app is None else {"linearData": self.app},
            "version": 0.4,
        }

    def saved_nodes(self) -> list[dict[str, Any]]:
        """All nodes as the editor saves them; fills ``links``: id, from, slot, to, slot, type."""
        self.links = []
        saved = [self._saved(node) for node in self.nodes]
        for id_, source, slot, *_ in self.links:
            saved[source - 1]["outputs"][slot]["links"].append(id_)
        return saved

    def _saved(self, node: Node) -> dict[str, Any]:
        inputs, values = [], []
        if node.kind == "MarkdownNote":
            values = [node.inputs[""]]
        # Slots come before widgets in the editor's files.
        for with_widget in (False, True):
            for name, kind, options, optional in _declared(node):
                if with_widget is not _is_widget(kind, options):
                    continue
                value = node.inputs.get(name)
                slot: dict[str, Any] = {"name": name, "type": _type(kind), "link": None}
                if with_widget:
                    slot["widget"] = {"name": name}
                    values += _widget_values(node.kind, name, kind, options, value)
                if name in node.labels:
                    slot["label"] = node.labels[name]
                if optional:
                    slot["shape"] = OPTIONAL_SLOT
                if isinstance(value, Output):
                    slot["link"] = self._link(value, node, len(inputs))
                inputs.append(slot)
        file = {
            "id": node.id,
            "type": node.kind,
            "pos": list(node.at),
            "size": list(node.size),
            "flags": {"collapsed": True} if node.collapsed else {},
            "order": node.id - 1,
            "mode": 0,
            "inputs": inputs,
            "outputs": [
                {"name": name, "type": kind, "links": []}
                for name, kind in zip(node.outputs, node.info.get("output", []), strict=True)
            ],
            "properties": {"Node name for S&R": node.kind},
            "widgets_values": values,
        }
        if node.title:
            file["title"] = node.title
        return file | (NOTE_COLOURS if node.kind == "MarkdownNote" else {})

    def _link(self, source: Output, target: Node, slot: int) -> int:
        kind = source.node.info["output"][source.slot]
        return self.add_link(source.node.id, source.slot, target.id, slot, kind)

    def add_link(self, source: int, output: int, target: int, slot: int, kind: str) -> int:
        """A link between ids of nodes in the file; returns its own id."""
        self.links.append([len(self.links) + 1, source, output, target, slot, kind])
        return len(self.links)


def lasting_id(*parts: str) -> str:
    """The same id each time for the same words."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(("fitv2", *parts))))


def _declared(node: Node) -> Iterable[tuple[str, Any, dict[str, Any], bool]]:
    """Name, type, options of each input, and whether it is optional."""
    for group in ("required", "optional"):
        for name in node.info.get("input_order", {}).get(group, []):
            kind, *rest = node.info["input"][group][name]
            if kind == "COMFY_AUTOGROW_V3":
                # One slot more than there are links, as the editor shows it.
                template = rest[0]["template"]
                ((_, (item, *_)),) = template["input"]["required"].items()
                links = sum(key.startswith(f"{name}.") for key in node.inputs)
                for number in range(links + 1):
                    yield f"{name}.{template['prefix']}{number}", item, {}, number == links
            else:
                yield name, kind, rest[0] if rest else {}, group == "optional"


def _is_widget(kind: Any, options: dict[str, Any]) -> bool:
    return (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")


def _type(kind: Any) -> str:
    return "COMBO" if isinstance(kind, list) else kind


def _widget_values(
    node: str, name: str, kind: Any, options: dict[str, Any], value: Any
) -> list[Any]:
    """The value of a widget, and what follows it in the file: of a seed, how it changes.

    Seeds change with each run, so that a second run draws another image. Those of comparisons stay,
    so that it draws what was changed.
    """
    if value is None or isinstance(value, Output):
        choices = kind if isinstance(kind, list) else options.get("options", [""])
        empty = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False, "STRING": ""}
        value = options.get("default", empty.get(_type(kind), choices[0] if choices else ""))
    changes = name in ("seed", "noise_seed") or options.get("control_after_generate")
    return [value, "fixed" if node in _COMPARE else "randomize"] if changes else [value]

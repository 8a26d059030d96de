"""The shared workflows and blueprints on disk, and what both kinds of files have in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devkit.environment import ROOT

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
OLD_WORKFLOWS = sorted((ROOT / "tests" / "golden" / "91ff81d" / "workflows").glob("*.json"))
"""Those shared by the version that tests/golden/91ff81d is of."""


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def inside(blueprint: dict[str, Any]) -> dict[str, Any]:
    """The workflow in a blueprint, without its inputs and outputs: widgets keep their values."""
    (subgraph,) = blueprint["definitions"]["subgraphs"]
    links = [link for link in subgraph["links"] if min(link["origin_id"], link["target_id"]) > 0]
    kept = {link["id"] for link in links}
    nodes = [
        {
            **node,
            "inputs": [
                {**slot, "link": slot["link"] if slot["link"] in kept else None}
                for slot in node["inputs"]
            ],
        }
        for node in subgraph["nodes"]
    ]
    parts = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return {"nodes": nodes, "links": [[link[part] for part in parts] for link in links]}

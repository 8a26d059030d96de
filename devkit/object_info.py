"""The nodes as ComfyUI describes them to the browser, and a snapshot of ours for the tests.

python -m devkit.object_info    renew the snapshot, after a change that is meant
"""

from __future__ import annotations

import json
from typing import Any

from .client import Client
from .environment import DEV, ROOT, say
from .host import PACK_NAME, own_host
from .server import Server

SNAPSHOT = ROOT / "tests" / "host" / "object_info.json"
FILES = ("checkpoint",)
"""Inputs whose choices are the files of a machine."""


def from_host() -> dict[str, Any]:
    """What a ComfyUI with this pack says of all its nodes."""
    with Server(own_host(), DEV / "base") as server:
        return Client(server.url).get("/object_info")


def ours(object_info: dict[str, Any]) -> dict[str, Any]:
    """Our nodes alone, by name, without what differs from machine to machine."""
    nodes = {
        name: dict(info)
        for name, info in sorted(object_info.items())
        if info["python_module"] == f"custom_nodes.{PACK_NAME}"
    }
    for info in nodes.values():
        info["input"] = {
            group: {name: _without_files(name, spec) for name, spec in inputs.items()}
            for group, inputs in info["input"].items()
        }
    return nodes


def _without_files(name: str, spec: Any) -> Any:
    if name not in FILES:
        return spec
    kind, options = spec
    return [kind, {key: value for key, value in options.items() if key != "options"}]


def snapshot() -> dict[str, Any]:
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))


def main() -> None:
    text = json.dumps(ours(from_host()), indent=1, ensure_ascii=False) + "\n"
    SNAPSHOT.write_text(text, encoding="utf-8", newline="\n")
    say(f"wrote {SNAPSHOT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

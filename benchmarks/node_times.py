"""How long a node takes in a running ComfyUI."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from support.live_client import LiveClient, LiveRun


def run_timed(
    client: LiveClient, prompt: dict[str, Any], node: str, preview_method: str = "none"
) -> tuple[LiveRun, float]:
    """Run a prompt; also returns the seconds from the start of ``node`` to that of the next node.

    Raises ``PromptError``, and ``ValueError`` if ComfyUI has cached the node's result.
    """
    starts: list[tuple[str | None, float]] = []

    def note(kind: str, data: dict[str, Any]) -> None:
        if kind == "executing":
            starts.append((data["node"], time.perf_counter()))

    run = client.run(prompt, note, preview_method)
    for (name, started), (_, ended) in pairwise(starts):
        if name == node:
            return run, ended - started
    raise ValueError(f"ComfyUI has cached the result of node {node}. Change one of its inputs.")

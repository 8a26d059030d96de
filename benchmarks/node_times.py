"""How long a node takes in a running ComfyUI."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from devkit.client import Client, Run


def run_timed(
    client: Client, prompt: dict[str, Any], node: str, preview_method: str = "none"
) -> tuple[Run, float]:
    """Run a prompt; also gives the seconds from the start of ``node`` to that of the next, as the websocket tells.

    Raises ``PromptError``, and ``ValueError`` where the host had the node's result from an earlier prompt.
    """
    starts: list[tuple[str | None, float]] = []

    def note(kind: str, data: dict[str, Any]) -> None:
        if kind == "executing":
            starts.append((data["node"], time.perf_counter()))

    run = client.run(prompt, note, preview_method)
    for (name, started), (_, ended) in pairwise(starts):
        if name == node:
            return run, ended - started
    raise ValueError(
        f"Node {node} did not run: the host kept its result from an earlier prompt. Change one of its inputs."
    )

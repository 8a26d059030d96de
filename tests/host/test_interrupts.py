"""A run can be cancelled while one evaluation of the model takes long."""

from __future__ import annotations

import threading
import time

from support.graph import Graph
from support.live_client import LiveClient

HUGE = 2560
PATIENCE_SECONDS = 15


def test_a_huge_image_is_warned_of_and_can_be_cancelled_within_a_block(
    graph: Graph, client: LiveClient
) -> None:
    """One block of one evaluation takes longer here; the warning comes before the first."""
    loader = graph.loader()
    node = graph.ksampler(loader[0], graph.label(loader[0]), graph.size(HUGE, HUGE)[0], steps=1)
    graph.add("PreviewAny", source=node[0])
    cancelled = []

    def evaluations() -> int:
        return client.get("/fit_test/counts")["evaluations"]

    before = evaluations()

    def cancel() -> None:
        while evaluations() == before:  # it is counted when it begins
            time.sleep(0.05)
        cancelled.append(time.monotonic())
        client.interrupt()

    def on_event(kind: str, data: dict) -> None:
        if kind == "fitv2_warning":
            threading.Thread(target=cancel, daemon=True).start()

    run = client.run(graph.prompt, on_event)
    assert run.interrupted
    assert time.monotonic() - cancelled[0] < PATIENCE_SECONDS
    ((_, text),) = run.warnings
    assert text.startswith("100× the trained tokens (256)")
    assert "2560 × 2560 px are 25600 tokens" in text
    assert "GB of memory" in text

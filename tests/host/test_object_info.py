"""Our nodes as ComfyUI describes them to the browser: every change of them is a decision."""

from __future__ import annotations

from support.live_client import LiveClient

from devkit.object_info import ours, snapshot


def test_the_nodes_are_those_of_the_snapshot(client: LiveClient) -> None:
    """A change that is meant: ``python -m devkit.object_info``, and look at its diff.

    Saved workflows hold the values of inputs by position: a new input goes last and is optional,
    and none is removed or reordered.
    """
    now, before = ours(client.get("/object_info")), snapshot()
    assert list(now) == list(before)
    for name, node in now.items():
        assert node == before[name], name

"""A client that follows a prompt over ComfyUI's websocket: progress, previews, which node runs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from websocket import create_connection

from devkit.client import TIMEOUT_SECONDS, Client, Run
from devkit.other_hosts import OLDER_HOST

PREVIEW_IMAGE, TEXT, PREVIEW_IMAGE_WITH_METADATA = 1, 3, 4
"""Kinds of binary messages."""

OnEvent = Callable[[str, dict[str, Any]], None]


@dataclass
class LiveRun(Run):
    """A finished prompt and what came over the websocket meanwhile."""

    previews: list[bytes] = field(default_factory=list)
    """JPEG or PNG bytes, in order."""
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    """(node id, value, maximum), in order."""
    texts: dict[str, str] = field(default_factory=dict)
    """What each node shows at the end, by its id."""
    warnings: list[tuple[str, str]] = field(default_factory=list)
    """(node id, text), in order."""


def require_node(client: Client, name: str) -> None:
    """Skip the test on an older ComfyUI that has no such node of its own yet."""
    if OLDER_HOST in os.environ and name not in client.get("/object_info"):
        pytest.skip(f"ComfyUI {os.environ[OLDER_HOST]} has no {name}")


class LiveClient(Client):
    def run(
        self,
        prompt: dict[str, Any],
        on_event: OnEvent | None = None,
        preview_method: str = "auto",
    ) -> LiveRun:
        """Queue a prompt in API format and follow it to its end.

        ``on_event`` gets the type and data of each message as it arrives. ``preview_method`` is
        ComfyUI's: "none", "auto", "latent2rgb" or "taesd". Raises ``PromptError`` if ComfyUI
        refuses or fails the prompt.
        """
        address = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client_id}"
        socket = create_connection(address, timeout=TIMEOUT_SECONDS)
        try:
            run = LiveRun(self.queue(prompt, preview_method=preview_method), {})
            while _follow(socket.recv(), run, on_event):
                pass
        finally:
            socket.close()
        result = self.wait(run.prompt_id)
        run.outputs, run.interrupted = result.outputs, result.interrupted
        return run


def _follow(message: str | bytes, run: LiveRun, on_event: OnEvent | None) -> bool:
    """Take in one message; returns whether more will come."""
    if isinstance(message, bytes):
        run.previews += _preview(message)
        run.texts |= _text(message)
        return True
    event = json.loads(message)
    kind, data = event["type"], event["data"]
    if data.get("prompt_id", run.prompt_id) != run.prompt_id:
        return True
    if on_event is not None:
        on_event(kind, data)
    if kind == "progress":
        run.progress.append((data["node"], data["value"], data["max"]))
    if kind == "fitv2_warning":
        run.warnings.append((data["node_id"], data["text"]))
    # Sent once the history is written, unlike "execution_success" and "execution_error".
    return not (kind == "executing" and data["node"] is None)


def _preview(message: bytes) -> list[bytes]:
    """The image of a binary message, if it holds one."""
    kind = int.from_bytes(message[:4], "big")
    if kind == PREVIEW_IMAGE:  # four bytes name the image format
        return [message[8:]]
    if kind == PREVIEW_IMAGE_WITH_METADATA:
        return [message[8 + int.from_bytes(message[4:8], "big") :]]
    return []


def _text(message: bytes) -> dict[str, str]:
    """The text of a binary message by the id of its node, if it holds one."""
    if int.from_bytes(message[:4], "big") != TEXT:
        return {}
    end = 8 + int.from_bytes(message[4:8], "big")
    return {message[8:end].decode(): message[end:].decode()}

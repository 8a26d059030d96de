"""What people are told of a run: on the node that is running, in the log, and in the browser.

None of it ends a run. ComfyUI shows one text per node, the newest, below the node's widgets. The
pack's extension in the browser shows each warning as a message, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from comfy_execution.utils import get_executing_context

from .web import web_server

WARNING_SIGN = "⚠"
WARNING_EVENT = "fitv2_warning"
"""Type of the message to the browser: a dict of ``node_id`` and ``text``."""


def show(report: str, warnings: tuple[str, ...] = ()) -> None:
    """Show a report and warnings on the node that is running; warnings go into the log as well.

    Outside of a node there is the log alone.
    """
    running, server = get_executing_context(), web_server()
    node_id = None if running is None else running.node_id
    client_id = None if server is None else server.client_id
    for text in warnings:
        warn(text, node_id, client_id)
    if server is not None and node_id is not None and client_id is not None:
        lines = [*filter(None, [report]), *(f"{WARNING_SIGN} {text}" for text in warnings)]
        server.send_progress_text("\n".join(lines), node_id, client_id)


def warn(text: str, node_id: str | None, client_id: str | None) -> None:
    """Write a warning of a node to the log, and send it to the browser that queued the prompt."""
    logging.warning("FiT: %s", text)
    server = web_server()
    if server is not None and client_id is not None:
        server.send_sync(WARNING_EVENT, {"node_id": node_id, "text": text}, client_id)


def on_prompt(look: Callable[[Mapping[str, Any], str | None], None]) -> None:
    """Call ``look`` with every prompt that is queued, in API format, and its browser's id."""

    def handle(data: dict[str, Any]) -> dict[str, Any]:
        prompt = data.get("prompt")
        if isinstance(prompt, dict) and all(isinstance(node, dict) for node in prompt.values()):
            look(prompt, data.get("client_id"))
        return data

    server = web_server()
    if server is not None:
        server.add_on_prompt_handler(handle)

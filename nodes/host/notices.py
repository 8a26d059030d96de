"""What people are told while a graph runs: on the node that is running, and in the log.

Neither ends a run. ComfyUI shows one text per node, the newest, below the node's widgets. The
pack's extension in the browser shows each warning as a message, too.
"""

from __future__ import annotations

import logging

from comfy_execution.utils import get_executing_context

WARNING_SIGN = "⚠"
WARNING_EVENT = "fitv2_warning"
"""Type of the message to the browser: a dict of ``node_id`` and ``text``."""


def show(report: str, warnings: tuple[str, ...] = ()) -> None:
    """Show a report and warnings on the node that is running; warnings go into the log as well.

    Outside of a node there is the log alone.
    """
    for text in warnings:
        logging.warning("FiT: %s", text)
    try:
        from server import PromptServer  # not at the top: it is there in a running ComfyUI only
    except ImportError:
        return
    running, server = get_executing_context(), getattr(PromptServer, "instance", None)
    if running is None or server is None or server.client_id is None:
        return
    lines = [*filter(None, [report]), *(f"{WARNING_SIGN} {text}" for text in warnings)]
    server.send_progress_text("\n".join(lines), running.node_id, server.client_id)
    for text in warnings:
        message = {"node_id": running.node_id, "text": text}
        server.send_sync(WARNING_EVENT, message, server.client_id)

"""A line of text on a node in the browser."""

from __future__ import annotations

from comfy_api.latest import io


def show_on_node(node: type[io.ComfyNode], text: str) -> None:
    """Show a text on the node that runs; it must ask for the hidden input unique_id.

    Where there is no web server, as in scripts that import the nodes alone, nothing is shown.
    """
    try:
        from server import PromptServer  # not at the top: it is there in a running ComfyUI only
    except ImportError:
        return
    server = getattr(PromptServer, "instance", None)
    if server is not None and node.hidden is not None and node.hidden.unique_id is not None:
        server.send_progress_text(text, node.hidden.unique_id)

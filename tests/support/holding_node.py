"""For the tests' ComfyUI: models stop before they evaluate, for as long as a test wants.

Copied into its ``custom_nodes``. After POST /fit_test/hold no model evaluates until
POST /fit_test/go.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from functools import wraps
from threading import Event
from typing import Any

from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
MOST_SECONDS = 300
"""A run that is held for longer goes on: its test has ended without a word."""
may_go = Event()
may_go.set()


def _obey_from_now_on() -> None:
    network: Any = next(
        module for name, module in sys.modules.items() if name.endswith(".nodes.host.network")
    ).HostFiT
    if hasattr(network, "held"):
        return
    plain, network.held = network.forward, True

    @wraps(plain)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        may_go.wait(MOST_SECONDS)
        return plain(self, *args, **kwargs)

    network.forward = forward


@PromptServer.instance.routes.post("/fit_test/hold")
async def hold(_: web.Request) -> web.Response:
    _obey_from_now_on()
    may_go.clear()
    return web.json_response({})


@PromptServer.instance.routes.post("/fit_test/go")
async def go(_: web.Request) -> web.Response:
    may_go.set()
    return web.json_response({})

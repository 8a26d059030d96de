"""For the tests' ComfyUI: counts images that models evaluate and VAEs decode, and what is kept.

Copied into its ``custom_nodes``; GET /fit_test/counts gives the counts.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

import comfy.sd
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
counts = {"evaluations": 0, "decoded": 0}


def _module(ending: str) -> Any:
    return next(module for name, module in sys.modules.items() if name.endswith(ending))


def _count_from_now_on() -> None:
    network = _module(".nodes.host.network").HostFiT
    if hasattr(network, "counted"):
        return
    plain, network.counted = network.forward, True

    @wraps(plain)
    def forward(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        counts["evaluations"] += sum(map(len, x)) if isinstance(x, list) else len(x)
        return plain(self, x, *args, **kwargs)

    plain_decode = comfy.sd.VAE.decode

    @wraps(plain_decode)
    def decode(self: Any, samples: Any, *args: Any, **kwargs: Any) -> Any:
        counts["decoded"] += len(samples)
        return plain_decode(self, samples, *args, **kwargs)

    network.forward, comfy.sd.VAE.decode = forward, decode


@PromptServer.instance.routes.get("/fit_test/counts")
async def answer(_: web.Request) -> web.Response:
    _count_from_now_on()
    kept = _module(".nodes.sweep_drawing").KEPT
    queue = PromptServer.instance.prompt_queue
    asked = {"asked_to_free": bool(queue.flags)}
    return web.json_response({**counts, **asked, "kept": len(kept), "bytes": kept.bytes_held})

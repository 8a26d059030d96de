"""What ComfyUI lists and serves of the pack's folder: templates, blueprints, scripts, help pages.

ComfyUI serves all of it by itself, under the folder's name. Here its lists get the order and leave
out other copies of the pack, and its addresses are found whatever the folder is called.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from .web import web_server

TEMPLATES = "/workflow_templates"
BLUEPRINTS = "/global_subgraphs"
_BEFORE_HELP = re.compile(r"[.@#?%]")
"""The frontend asks for help under the folder's name up to the first of these."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def arrange(folder: Path, skipped: Sequence[Path]) -> None:
    """Let ComfyUI list and serve the pack in ``folder``, and none of the ``skipped`` copies.

    Copies may be added to ``skipped`` later. Where there is no web server, nothing happens.
    """
    server = web_server()
    if server is None:
        return
    if hidden := _BEFORE_HELP.findall(folder.name):
        logging.warning(
            f'FiTv2 has no help pages while its folder has a "{hidden[0]}" in its name, because '
            f"ComfyUI looks for them in another folder. Rename {folder} to fitv2, for example."
        )
    server.app.middlewares.append(_arranged_lists(folder, skipped))
    server.app.on_startup.append(_serve_decoded(folder))


def arranged_templates(
    listed: dict[str, list[str]], pack: str, skipped: Sequence[str]
) -> dict[str, list[str]]:
    """ComfyUI's templates by pack: ours in the order of their names, which number them."""
    for name in skipped:
        if name != pack:
            listed.pop(name, None)
    if pack in listed:
        listed[pack] = sorted(set(listed[pack]))
    return listed


def arranged_blueprints(
    listed: dict[str, Any], pack: str, skipped: Sequence[str]
) -> dict[str, Any]:
    """ComfyUI's blueprints by id, without those of copies that are skipped."""
    unwanted = {f"custom_nodes.{name}" for name in skipped if name != pack}
    seen: set[tuple[str, str]] = set()
    arranged = {}
    for key, blueprint in listed.items():
        place = blueprint.get("info", {}).get("node_pack"), blueprint.get("name")
        # Of folders with the same name, the one that is loaded first is listed first.
        if place[0] in unwanted or (place in seen and place[0] == f"custom_nodes.{pack}"):
            continue
        seen.add(place)
        arranged[key] = blueprint
    return arranged


def _arranged_lists(folder: Path, skipped: Sequence[Path]) -> Any:
    """A middleware: ComfyUI lists files as the disk does, and those of every folder."""
    arrangements = {TEMPLATES: arranged_templates, BLUEPRINTS: arranged_blueprints}

    @web.middleware
    async def arrange_lists(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        arrangement = arrangements.get(request.path.removeprefix("/api"))
        if arrangement is None or not isinstance(response, web.Response):
            return response
        listed = json.loads(response.text or "null")
        if not isinstance(listed, dict):
            return response
        names = [copy.name for copy in skipped]
        return web.json_response(arrangement(listed, folder.name, names))

    return arrange_lists


def _serve_decoded(folder: Path) -> Callable[[web.Application], Awaitable[None]]:
    """Find what ComfyUI serves of the pack where the folder's name has spaces, brackets or æ.

    aiohttp quotes the address of a folder that it serves ("my%20pack"), and looks it up unquoted
    ("my pack"). So each address that ComfyUI serves is added to what is looked up, as it was meant.
    """

    async def serve(app: web.Application) -> None:
        for quoted in list(app.router.resources()):
            decoded = unquote(quoted.canonical)
            if decoded != quoted.canonical and isinstance(quoted, web.StaticResource):
                place = quoted.get_info().get("directory")
                if place is not None and folder.resolve() in place.parents:
                    served = web.StaticResource("", place)
                    served.add_prefix(decoded)
                    app.router.index_resource(served)

    return serve

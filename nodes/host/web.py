"""The web server of ComfyUI, and routes on it that answer with JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

Query = Mapping[str, Sequence[str]]
"""What was asked, by name: all values that were given for it, in order."""
Answer = Callable[[Query], Mapping[str, Any]]
LONGEST_BODY = 2**20
"""In bytes, of a question that is posted because it is too long for an address."""


class RouteError(ValueError):
    """A question that has no answer; ``status`` is that of HTTP, 400 or 404."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def web_server() -> Any:
    """ComfyUI's web server; None where there is none, as in scripts."""
    try:
        from server import PromptServer  # not at the top: it is there in a running ComfyUI only
    except ImportError:
        return None
    return getattr(PromptServer, "instance", None)


def add_json_routes(answers: Mapping[str, Answer]) -> None:
    """Serve each answer under its path, to GET with a query and to POST with a JSON object.

    Answers are called in a thread of their own. What they raise becomes {"error": text}: a
    ``RouteError`` with its status, another ``ValueError`` with 400. Where there is no web server,
    as in scripts that import the nodes alone, nothing is served.
    """
    server = web_server()
    if server is None:
        return
    for path, answer in answers.items():
        handler = _handler(answer)
        server.routes.get(path)(handler)
        server.routes.post(path)(handler)


def _handler(answer: Answer) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        try:
            query = await _query(request)
            return web.json_response(await asyncio.to_thread(answer, query))
        except RouteError as error:
            return _failure(error.status, str(error))
        except ValueError as error:
            return _failure(400, str(error))

    return handle


async def _query(request: web.Request) -> Query:
    """The names and values of an address, or of a posted JSON object of texts."""
    if request.method != "POST":
        return {name: request.query.getall(name) for name in request.query}
    body = await request.content.read(LONGEST_BODY + 1)
    while not request.content.at_eof() and len(body) <= LONGEST_BODY:
        body += await request.content.read(LONGEST_BODY + 1 - len(body))
    if len(body) > LONGEST_BODY:
        raise RouteError(400, f"The question is longer than {LONGEST_BODY} bytes.")
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise RouteError(400, "The body must be a JSON object whose values are texts.")
    return {name: [value] for name, value in values.items()}


def _failure(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)

"""The client of ``python dev.py demo``, against a server that answers as ComfyUI does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from devkit import client as client_module
from devkit.client import Client, PromptError

PROMPT = {"1": {"class_type": "SaveImage", "inputs": {}}}
FILE = {"filename": "a b.png", "subfolder": "", "type": "output"}


def history(*messages: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """An entry of ComfyUI's history."""
    return {"outputs": {"1": {"images": [FILE]}}, "status": {"messages": messages}}


class Answers(HTTPServer):
    """Answers each path with a list of (status, content), one after the other."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[tuple[int, Any]]] = {}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Answers)
        status, content = self.server.answers[self.path].pop(0)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def comfyui() -> Iterator[Answers]:
    with Answers() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(comfyui: Answers, monkeypatch: pytest.MonkeyPatch) -> Client:
    monkeypatch.setattr(client_module, "POLL_SECONDS", 0)
    return Client(f"http://127.0.0.1:{comfyui.server_port}")


def test_a_prompt_is_waited_for_and_its_files_fetched(comfyui: Answers, client: Client) -> None:
    comfyui.answers = {
        "/prompt": [(200, {"prompt_id": "7"})],
        "/history/7": [(200, {}), (200, {}), (200, {"7": history(("execution_success", {}))})],
        "/view?filename=a+b.png&subfolder=&type=output": [(200, b"pixels")],
    }
    polls: list[None] = []
    run = client.wait(client.queue(PROMPT), lambda: polls.append(None))
    assert len(polls) == 2
    assert not run.interrupted
    assert client.fetch(run.files()[0]) == b"pixels"


def test_a_refused_prompt_tells_the_reasons(comfyui: Answers, client: Client) -> None:
    error = {"message": "Value not in list", "details": "solver: 'x'"}
    answer = {
        "error": {"message": "Prompt outputs failed validation"},
        "node_errors": {"1": {"class_type": "FiTSampler", "errors": [error]}},
    }
    comfyui.answers = {"/prompt": [(400, answer)]}
    with pytest.raises(
        PromptError, match=r"refused.*validation; FiTSampler \(node 1\): Value not in list: solver"
    ):
        client.queue(PROMPT)


def test_a_failed_node_is_named(comfyui: Answers, client: Client) -> None:
    failure = {"node_type": "FiTLoader", "node_id": "3", "exception_message": "an empty file\n"}
    comfyui.answers = {"/history/7": [(200, {"7": history(("execution_error", failure))})]}
    with pytest.raises(PromptError, match=r"^FiTLoader \(node 3\): an empty file$") as error:
        client.wait("7")
    assert error.value.details == failure


def test_an_interrupted_prompt_says_so(comfyui: Answers, client: Client) -> None:
    comfyui.answers = {"/history/7": [(200, {"7": history(("execution_interrupted", {}))})]}
    assert client.wait("7").interrupted


def test_a_server_that_does_not_answer_is_an_error_of_its_own() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionError, match="does not answer"):
        Client(f"http://127.0.0.1:{port}").wait("7")

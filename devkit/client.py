"""A client of a running ComfyUI: queue prompts, wait for them, fetch what they made."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 600
POLL_SECONDS = 0.5


class PromptError(RuntimeError):
    """ComfyUI refused or failed a prompt; ``details`` is its answer."""

    def __init__(self, message: str, details: Any) -> None:
        super().__init__(message)
        self.details = details


@dataclass
class Run:
    """The result of a finished prompt: outputs by node id."""

    prompt_id: str
    outputs: dict[str, Any]
    interrupted: bool = False

    def files(self, kind: str = "images") -> list[dict[str, str]]:
        """What the outputs of one kind name, each for ``Client.fetch``."""
        return [file for output in self.outputs.values() for file in output.get(kind, [])]


class Client:
    def __init__(self, url: str) -> None:
        self.url = url
        self.client_id = uuid.uuid4().hex

    def get(self, path: str) -> Any:
        return json.loads(self.request(path))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.request(path, json.dumps(body).encode())
        return json.loads(answer) if answer else None

    def fetch(self, file: dict[str, str]) -> bytes:
        """The content of a file that an output names."""
        place = {key: file[key] for key in ("filename", "subfolder", "type")}
        return self.request(f"/view?{urllib.parse.urlencode(place)}")

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def queue(self, prompt: dict[str, Any], **extra_data: Any) -> str:
        """Queue a prompt in API format; returns its id. Raises ``PromptError`` if it is refused."""
        body = {"prompt": prompt, "client_id": self.client_id, "extra_data": extra_data}
        try:
            return self.post("/prompt", body)["prompt_id"]
        except urllib.error.HTTPError as error:
            details = json.loads(error.read())
            raise PromptError(f"ComfyUI refused the prompt: {_refusal(details)}", details) from None

    def wait(self, prompt_id: str, waiting: Callable[[], None] = lambda: None) -> Run:
        """Wait until a prompt has finished, calling ``waiting`` twice per second.

        Raises ``PromptError`` if a node fails, and ``ConnectionError`` if ComfyUI stops answering.
        """
        while (run := self.finished(prompt_id)) is None:
            waiting()
            time.sleep(POLL_SECONDS)
        return run

    def finished(self, prompt_id: str) -> Run | None:
        """The result of a prompt, if it has finished. Raises ``PromptError`` if a node failed."""
        entry = self.get(f"/history/{prompt_id}").get(prompt_id)
        if entry is None:
            return None
        messages = dict(entry["status"]["messages"])
        if failure := messages.get("execution_error"):
            node = f"{failure['node_type']} (node {failure['node_id']})"
            raise PromptError(f"{node}: {failure['exception_message'].strip()}", failure)
        return Run(prompt_id, entry["outputs"], "execution_interrupted" in messages)

    def request(self, path: str, body: bytes | None = None) -> bytes:
        """The answer to a GET, or with ``body`` to a POST of JSON.

        Raises ``HTTPError`` for an error status and ``ConnectionError`` without an answer.
        """
        headers = {"Content-Type": "application/json"} if body is not None else {}
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return response.read()
        except urllib.error.HTTPError:
            raise
        except OSError as error:
            raise ConnectionError(f"ComfyUI at {self.url} does not answer: {error}") from error


def _refusal(details: dict[str, Any]) -> str:
    reasons = [details.get("error", {}).get("message", "")]
    for node_id, node in details.get("node_errors", {}).items():
        reasons += [
            f"{node['class_type']} (node {node_id}): {e['message']}: {e['details']}"
            for e in node["errors"]
        ]
    return "; ".join(filter(None, reasons))

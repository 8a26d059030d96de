"""Talk to a running ComfyUI: queue prompts, follow them, fetch what they made."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .websocket import WebSocket

SILENCE_SECONDS = 600
_PREVIEW_IMAGE, _PREVIEW_IMAGE_WITH_METADATA = 1, 4

Event = Callable[[str, dict[str, Any]], None]


class PromptError(RuntimeError):
    """ComfyUI refused or failed a prompt; ``details`` is what it said."""

    def __init__(self, message: str, details: Any) -> None:
        super().__init__(message)
        self.details = details


@dataclass
class Run:
    """What a finished prompt left: outputs by node id, and what came over the websocket meanwhile."""

    prompt_id: str
    outputs: dict[str, Any]
    previews: list[bytes] = field(default_factory=list)
    """JPEG or PNG bytes, in order."""
    progress: list[tuple[str, int, int]] = field(default_factory=list)
    """(node id, value, maximum), in order."""
    interrupted: bool = False

    def files(self, kind: str = "images") -> list[dict[str, str]]:
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
        """The bytes of a file that an output names."""
        return self.request(
            "/view?"
            + urllib.parse.urlencode({k: file[k] for k in ("filename", "subfolder", "type")})
        )

    def interrupt(self) -> None:
        self.post("/interrupt", {})

    def run(
        self, prompt: dict[str, Any], on_event: Event | None = None, preview_method: str = "auto"
    ) -> Run:
        """Queue a prompt in API format and follow it to its end. Raises ``PromptError`` where it is refused or fails.

        ``on_event`` gets each message's type and data as it comes, "preview" with the image's bytes among them. ``preview_method``
        is the host's: "none", "auto", "latent2rgb" or "taesd".
        """
        parts = urllib.parse.urlsplit(self.url)
        socket = WebSocket(
            str(parts.hostname), parts.port or 80, f"/ws?clientId={self.client_id}", SILENCE_SECONDS
        )
        try:
            extra = {"preview_method": preview_method}
            try:
                queued = self.post(
                    "/prompt", {"prompt": prompt, "client_id": self.client_id, "extra_data": extra}
                )
            except urllib.error.HTTPError as error:
                details = json.loads(error.read())
                raise PromptError(
                    f"ComfyUI refused the prompt: {_refusal(details)}", details
                ) from None
            run = Run(queued["prompt_id"], {})
            while self._follow(socket.receive(), run, on_event):
                pass
        finally:
            socket.close()
        run.outputs = (
            self.get(f"/history/{run.prompt_id}").get(run.prompt_id, {}).get("outputs", {})
        )
        return run

    def _follow(self, message: str | bytes, run: Run, on_event: Event | None) -> bool:
        """Take in one message; False when it is the prompt's last."""
        if isinstance(message, bytes):
            preview = _preview(message)
            if preview is not None:
                run.previews.append(preview)
                if on_event is not None:
                    on_event("preview", {"image": preview})
            return True
        event = json.loads(message)
        kind, data = event["type"], event["data"]
        if data.get("prompt_id", run.prompt_id) != run.prompt_id:
            return True
        if on_event is not None:
            on_event(kind, data)
        if kind == "progress":
            run.progress.append((data["node"], data["value"], data["max"]))
        elif kind == "execution_error":
            raise PromptError(
                f"{data['node_type']} (node {data['node_id']}): {data['exception_message'].strip()}",
                data,
            )
        elif kind == "execution_interrupted":
            run.interrupted = True
        # Sent when the history is written, unlike "execution_success".
        return not (kind == "executing" and data["node"] is None)

    def request(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            self.url + path, body, {"Content-Type": "application/json"} if body is not None else {}
        )
        with urllib.request.urlopen(request, timeout=SILENCE_SECONDS) as response:
            return response.read()


def _preview(message: bytes) -> bytes | None:
    kind = int.from_bytes(message[:4], "big")
    if kind == _PREVIEW_IMAGE:  # 4 more bytes name the image format
        return message[8:]
    if kind == _PREVIEW_IMAGE_WITH_METADATA:
        return message[8 + int.from_bytes(message[4:8], "big") :]
    return None


def _refusal(details: dict[str, Any]) -> str:
    reasons = [details.get("error", {}).get("message", "")]
    for node_id, node in details.get("node_errors", {}).items():
        reasons += [
            f"{node['class_type']} (node {node_id}): {e['message']}: {e['details']}"
            for e in node["errors"]
        ]
    return "; ".join(filter(None, reasons))

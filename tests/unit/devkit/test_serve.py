"""``python dev.py serve``: which port it takes, and what it says when ComfyUI ends."""

from __future__ import annotations

import socket
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

import dev
from devkit import server as server_module
from devkit.environment import SetupError
from devkit.server import next_free_port

pytestmark = pytest.mark.processes

COMFYUI = """
import os, signal, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

class Stats(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{{}}")

server = HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Stats)
server.handle_request()
print("the last thing it did", flush=True)
{ending}
"""
"""A program that starts as ComfyUI does, and then ends."""


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Serve a ComfyUI that ends with some code; returns the exit code and what was said."""
    monkeypatch.setattr(dev, "DEV", tmp_path)
    monkeypatch.setattr(server_module, "_has_accelerator", lambda host: False)

    def run(ending: str, port: int) -> tuple[int, str]:
        folder = tmp_path / "ComfyUI"
        (folder / "comfy").mkdir(parents=True)
        (folder / "main.py").write_text(COMFYUI.format(ending=ending))
        (folder / "comfyui_version.py").write_text('__version__ = "0.30.0"')
        arguments = Namespace(comfyui=folder, python=Path(sys.executable), port=port)
        return dev.serve(arguments), capsys.readouterr().out

    return run


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which a program listens."""
    with socket.create_server(("127.0.0.1", 0)) as program:
        yield program.getsockname()[1]


def test_a_free_port_is_taken_as_it_is(serve, taken: int) -> None:
    port = next_free_port(taken + 1)
    assert f"http://127.0.0.1:{port} " in serve("", port)[1]


def test_a_taken_port_is_left_for_the_next_one_and_that_is_said(serve, taken: int) -> None:
    said = serve("", taken)[1]
    assert f"port {taken} is taken, so this is {next_free_port(taken)}" in said


def test_without_a_free_port_another_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_is_free", lambda port: False)
    with pytest.raises(SetupError, match=r"No port from 65500 to 65535 is free\. Name another"):
        next_free_port(65500)


def test_a_comfyui_that_ends_gets_a_last_word(serve) -> None:
    code, said = serve("sys.exit(3)", next_free_port(28188))
    assert code == 1
    assert "ComfyUI ended by itself, with exit code 3. The end of " in said
    assert said.rstrip().endswith("the last thing it did")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_killed_comfyui_is_named_so(serve) -> None:
    code, said = serve("os.kill(os.getpid(), signal.SIGKILL)", next_free_port(28188))
    assert code == 1
    assert "killed by SIGKILL, perhaps because memory ran out" in said

"""A ComfyUI process with this pack in it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from .environment import SetupError
from .host import Host, link_pack

BOOT_SECONDS = 300
STOP_SECONDS = 20
FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")


class Server:
    """ComfyUI with ``base`` as its data folder, for a ``with`` block.

    ``arguments`` are passed to ComfyUI; ``port`` 0 is any free one. Where the pack is not
    ``linked``, it is what ``arguments`` say. Raises ``SetupError`` if it does not start.
    """

    def __init__(
        self, host: Host, base: Path, *arguments: str, port: int = 0, linked: bool = True
    ) -> None:
        self.base = base
        self._linked = linked
        self.log_path = base / "comfyui.log"
        self.port = port or _any_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        database = (base / "user" / "comfyui.db").as_posix()
        self._command = [
            *(str(host.python), "main.py"),
            *("--port", str(self.port)),
            *("--base-directory", str(base)),
            *("--database-url", f"sqlite:///{database}"),
            "--disable-api-nodes",
            "--disable-auto-launch",
            *("--preview-method", "auto"),
            *([] if _has_accelerator(host) else ["--cpu"]),
            *arguments,
        ]
        self._folder = host.folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        for name in FOLDERS:
            (self.base / name).mkdir(parents=True, exist_ok=True)
        if self._linked:
            link_pack(self.base / "custom_nodes")
        with self.log_path.open("wb") as log:
            environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the started ComfyUI."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def last_line(self) -> str:
        """The end of the log: while an image is sampled, its progress bar."""
        return self.log().replace("\r", "\n").rstrip().rpartition("\n")[2]

    def wait(self) -> str:
        """Wait until the process ends by itself; returns how it did, with the end of its log."""
        assert self._process is not None
        code = self._process.wait()
        return f"ComfyUI ended by itself, {_meaning(code)}. {self._end_of_log()}"

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running():
                raise self._failure("ComfyUI stopped while starting.")
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(f"{self.url}/system_stats", timeout=5).close()
                return
            time.sleep(0.2)
        raise self._failure(f"ComfyUI did not answer within {BOOT_SECONDS} s.")

    def _failure(self, what: str) -> SetupError:
        return SetupError(f"{what} {self._end_of_log()}")

    def _end_of_log(self) -> str:
        return f"The end of {self.log_path}:\n{self.log()[-3000:]}"


def next_free_port(first: int) -> int:
    """The first port from ``first`` on that no program listens on.

    Raises ``SetupError`` if there is none among the next hundred.
    """
    last = min(first + 99, 65535)
    for port in range(first, last + 1):
        if _is_free(port):
            return port
    raise SetupError(f"No port from {first} to {last} is free. Name another with --port.")


def _is_free(port: int) -> bool:
    # On macOS a port can be bound here although a program listens on it at all addresses.
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return False
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def _any_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _meaning(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    # What the system does to the largest process when memory runs out.
    return f"killed by {name}" + (", perhaps because memory ran out" if name == "SIGKILL" else "")


def _has_accelerator(host: Host) -> bool:
    code = (
        "import torch; accelerator = getattr(torch, 'accelerator', None);"
        " print(bool(accelerator and accelerator.is_available()) or torch.cuda.is_available())"
    )
    answer = subprocess.run([host.python, "-c", code], capture_output=True, text=True).stdout
    return answer.strip() == "True"

"""A ComfyUI process with this pack in it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from .environment import Host, SetupError, link_pack

BOOT_SECONDS = 300
STOP_SECONDS = 20
FOLDERS = ("models", "input", "output", "temp", "user")


class Server:
    """ComfyUI on a free port with ``base`` as its data folder, for a ``with`` block.

    ``arguments`` are passed to ComfyUI. Raises ``SetupError`` if it does not start.
    """

    def __init__(self, host: Host, base: Path, *arguments: str) -> None:
        self.base = base
        self.log_path = base / "comfyui.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
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

    def wait(self) -> None:
        """Wait until the process ends by itself."""
        if self._process is not None:
            self._process.wait()

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
        return SetupError(f"{what} The end of {self.log_path}:\n{self.log()[-3000:]}")


def _has_accelerator(host: Host) -> bool:
    code = (
        "import torch; accelerator = getattr(torch, 'accelerator', None);"
        " print(bool(accelerator and accelerator.is_available()) or torch.cuda.is_available())"
    )
    answer = subprocess.run([host.python, "-c", code], capture_output=True, text=True).stdout
    return answer.strip() == "True"

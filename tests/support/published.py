"""The files that the registry's archive holds."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from devkit.environment import ROOT


def published_files() -> list[Path]:
    """Those in git that .comfyignore leaves. Skips the test where there is no git checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout, to know which files belong to the project")
    ignored = _listed("--ignored", f"--exclude-from={ROOT / '.comfyignore'}")
    return [ROOT / name for name in sorted(_listed() - ignored) if (ROOT / name).is_file()]


def extract_published(folder: Path) -> None:
    """Put them into a folder, as ComfyUI's Manager does."""
    for file in published_files():
        copy = folder / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _listed(*options: str) -> set[str]:
    command = ["git", "ls-files", "-z", "--cached", *options]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    return set(filter(None, listing.decode().split("\0")))

"""What ComfyUI's registry and its users' tools say of the pack: ``python -m devkit.registry``.

The tools lie in ``.dev/registry``, apart from the Python that runs ComfyUI.

Of comfy-test only the check of the JavaScript is run: what may break another pack in the same page.
Its check of syntax refuses layers of ``torch.nn``, which the model needs to work without ComfyUI,
and files with letters that Windows' old code page lacks, as if Python read them with it. Its other
checks install ComfyUI and start it, as ``tests/host`` does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from .environment import DEV, ROOT, SetupError, pip, say

TOOLS = ("comfy-cli==1.23.0", "comfy-test==0.4.15")
PLACE = DEV / "registry"
PASSED = "All validation checks passed"
"""What comfy-cli says where it warns of nothing; its exit code is 0 either way."""


def install_tools(place: Path = PLACE) -> None:
    """Install the tools where they are missing or of other versions. Raises ``SetupError``."""
    finished = place / ".installed"
    wanted = "\n".join([sys.version, *TOOLS])
    if finished.exists() and finished.read_text(encoding="utf-8") == wanted:
        return
    finished.unlink(missing_ok=True)
    options = ("--target", str(place), "--upgrade")
    pip("installing the registry's tools", Path(sys.executable), "install", *options, *TOOLS)
    finished.write_text(wanted, encoding="utf-8")


def problems(folder: Path, place: Path = PLACE) -> list[str]:
    """What the tools say against the pack in ``folder``: one text for each that complains."""
    commands = {
        "comfy node validate": ["comfy_cli", "--skip-prompt", "node", "validate"],
        "comfy-test": ["comfy_test", "lint", ".", "--check", "javascript", "--strict"],
    }
    home = str(place / "home")  # comfy-cli leaves its settings there
    variables = {
        **os.environ,
        **dict.fromkeys(("HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA"), home),
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(place),
        "PYTHONIOENCODING": "utf-8",
    }
    found = []
    for name, command in commands.items():
        run = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        complains = "Warning" in run.stdout or PASSED not in run.stdout
        if run.returncode or (name == "comfy node validate" and complains):
            found.append(f"{name}:\n{run.stdout}")
    return found


def main() -> int:
    try:
        install_tools()
    except SetupError as error:
        say(f"error: {error}")
        return 1
    found = problems(ROOT)
    for text in found:
        say(text)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

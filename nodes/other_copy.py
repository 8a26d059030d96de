"""Another copy of the pack in the same ComfyUI; looking for it needs no other part of it.

ComfyUI loads every folder. With two copies each node would be there once, by the last of them, but
every route, widget and help page twice.
"""

from __future__ import annotations

import sys
from pathlib import Path

_LOADER = "FiTLoader"
"""The node by which a copy is found."""

FOLDER = Path(__file__).parent.parent
"""The folder of this copy as ComfyUI names it: a link is not followed."""

skipped: list[Path] = []
"""The folders of other copies, in the module of the copy that is used."""


def other_copy() -> str | None:
    """One sentence where a copy in another folder has its nodes already, else None."""
    host = sys.modules.get("nodes")  # ComfyUI's, which has loaded the nodes of other folders
    node = getattr(host, "NODE_CLASS_MAPPINGS", {}).get(_LOADER)
    if node is None:
        return None
    used = sys.modules.get(f"{node.__module__.rpartition('.')[0]}.other_copy")
    if used is None or used.FOLDER == FOLDER:  # another's node, or loaded again
        return None
    used.skipped.append(FOLDER)
    return (
        f"FiTv2 is here twice: {used.FOLDER} is used, and {FOLDER} is skipped. Remove one of them "
        "and restart ComfyUI."
    )

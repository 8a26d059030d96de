"""Another copy of the pack in the same ComfyUI, which loads every folder.

The first copy that is loaded is used. With both, each node would be the last copy's, and each
widget, route and template there twice.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

FOLDER = Path(__file__).parent.parent
"""The folder of this copy as ComfyUI names it: a link is not followed."""

skipped: list[Path] = []
"""The folders of other copies, in the module of the copy that is used."""


def other_copy() -> str | None:
    """One sentence where a copy in another folder has its nodes already, else None."""
    used = _module_of_the_used()
    if used is None:
        return None
    used.skipped.append(FOLDER)
    return (
        f"FiTv2 is here twice: {used.FOLDER} is used, and {FOLDER} is skipped. Remove one of them "
        "and restart ComfyUI."
    )


async def comfy_entrypoint() -> ComfyExtension:
    """The entry point of a copy that is skipped: no nodes, and no templates either."""
    from comfy_api.latest import ComfyExtension

    class NoNodes(ComfyExtension):
        async def get_node_list(self) -> list:
            return []

    used = _module_of_the_used()
    # ComfyUI serves templates by names of folders, which may be the same in two places.
    served = getattr(_host(), "LOADED_MODULE_DIRS", {})
    if used is not None and used.FOLDER.name == FOLDER.name:
        served[FOLDER.name] = str(used.FOLDER)
    else:
        served.pop(FOLDER.name, None)
    return NoNodes()


def _module_of_the_used() -> ModuleType | None:
    """This module of the copy whose nodes ComfyUI has, if that is another copy."""
    node = getattr(_host(), "NODE_CLASS_MAPPINGS", {}).get("FiTLoader")
    if node is None:
        return None
    used = sys.modules.get(f"{node.__module__.rpartition('.')[0]}.other_copy")
    if used is None or used.FOLDER == FOLDER:  # another's node, or this copy loaded again
        return None
    return used


def _host() -> ModuleType | None:
    """ComfyUI's module of nodes, which is loaded where the pack is."""
    return sys.modules.get("nodes")

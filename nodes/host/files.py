"""Files that nodes write: temporary images with their settings, and folders of the output."""

from __future__ import annotations

import itertools
import random
import string
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import folder_paths
from comfy_api.latest import io, ui
from torch import Tensor

SavedFile = dict[str, str]
"""What ComfyUI's /view takes: "filename", "subfolder" and "type"."""

SETTINGS = "fitv2"
"""The key of our settings in the metadata of an image, beside "prompt" and "workflow"."""


def temporary_prefix() -> str:
    """The beginning of the names of the temporary images of one run."""
    return "fit_cell_" + "".join(random.choices(string.ascii_lowercase, k=8))


def save_temporary(
    image: Tensor, prefix: str, node: type[io.ComfyNode], settings: Mapping[str, Any]
) -> SavedFile:
    """Write an image (H, W, C) as a temporary PNG with its settings and the node's workflow.

    The node must ask for the hidden inputs prompt and extra_pnginfo. Where ComfyUI runs with
    --disable-metadata, the file has none.
    """
    hidden = node.hidden
    # ComfyUI's helper reads nothing of a node but these two.
    described: Any = SimpleNamespace(
        hidden=SimpleNamespace(
            prompt=hidden.prompt,
            extra_pnginfo={**(hidden.extra_pnginfo or {}), SETTINGS: dict(settings)},
        )
    )
    (saved,) = ui.ImageSaveHelper.save_images(
        image[None], prefix, io.FolderType.temp, described, compress_level=1
    )
    return {"filename": saved.filename, "subfolder": saved.subfolder, "type": saved.type.value}


def path_of(saved: SavedFile) -> Path:
    """Where a temporary file lies."""
    return Path(folder_paths.get_temp_directory(), saved["subfolder"], saved["filename"])


def new_output_folder(parent: str, name: str) -> Path:
    """An empty folder "NAME_00001" of the output folder's ``parent``, with the next free number."""
    above = Path(folder_paths.get_output_directory(), parent)
    above.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = above / f"{name}_{number:05}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there is always another number")


def relative_to_output(path: Path) -> str:
    """A path as people read it, from the output folder on."""
    return path.relative_to(folder_paths.get_output_directory()).as_posix()

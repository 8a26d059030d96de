"""The file behind a MODEL, and another file in its place."""

from __future__ import annotations

from pathlib import Path, PurePath

from comfy.model_patcher import ModelPatcher

from ...comfyui_fitv2.checkpoint import read_checkpoint
from ...comfyui_fitv2.metadata import Metadata
from .loading import WEIGHT_DTYPES, checkpoint_names, checkpoint_path, load
from .model import require_fit


def find_checkpoint(text: str) -> str | None:
    """The name in FiT Loader that a text means: all of it, or without folder and ending.

    Case does not matter. None where no file, or more than one, is called so.
    """
    names = checkpoint_names()
    typed = text.strip().lower().replace("\\", "/")
    for form in (_whole, _without_folder, _stem):
        found = [name for name in names if form(name) == typed]
        if len(found) == 1:
            return found[0]
    return None


def _whole(name: str) -> str:
    return name.lower().replace("\\", "/")


def _without_folder(name: str) -> str:
    return PurePath(_whole(name)).name


def _stem(name: str) -> str:
    return PurePath(_whole(name)).stem


def checkpoint_of(model: ModelPatcher) -> str | None:
    """The name in FiT Loader of the file that a MODEL was loaded from, where it is known."""
    loader = getattr(model, "cached_patcher_init", None)  # clones have none before 0.15
    if loader is None or loader[0] is not load:
        return None
    path = Path(loader[1][0])
    return next((name for name in checkpoint_names() if checkpoint_path(name) == path), path.name)


def read_metadata(name: str) -> Metadata:
    """The metadata of a file of FiT Loader. Raises ``CheckpointError`` for what is no FiT."""
    return read_checkpoint(checkpoint_path(name)).metadata


def with_checkpoint(model: ModelPatcher, name: str) -> ModelPatcher:
    """A clone with the weights of this file of FiT Loader; all that nodes put on a MODEL stays.

    The weights get the precision of the MODEL's. Raises ``ValueError`` where patches of weights,
    such as a LoRA, are for a model of another shape.
    """
    if not hasattr(model, "get_clone_model_override"):
        raise ValueError(
            "A sweep over checkpoints needs ComfyUI 0.16 or newer. Leave checkpoints empty, or "
            "update ComfyUI."
        )
    dtype = model.model.get_dtype()
    weight_dtype = next((key for key, value in WEIGHT_DTYPES.items() if value is dtype), "auto")
    path = str(checkpoint_path(name))
    loaded = load(path, weight_dtype)
    theirs, ours = (require_fit(m).metadata.config for m in (loaded, model))
    if model.patches and theirs != ours:
        raise ValueError(
            f"The MODEL has a LoRA or a merge on it, which is for a model of another shape than "
            f"{name}. Take {name} out of checkpoints, or connect the MODEL without patches."
        )
    clone = model.clone(model_override=loaded.get_clone_model_override())
    clone.size = loaded.model_size()
    clone.cached_patcher_init = loaded.cached_patcher_init
    return clone


def file_key(name: str, model: ModelPatcher) -> tuple[str, int, int, str]:
    """What tells the weights of ``with_checkpoint`` apart: the file as it is now, and how read."""
    path = checkpoint_path(name)
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size, str(model.model.get_dtype())

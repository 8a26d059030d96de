"""Checkpoint files: the folders they are in, and a file as the host's MODEL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import comfy.utils
import folder_paths
import torch
from comfy import model_management
from comfy.model_patcher import CoreModelPatcher, ModelPatcher

from ...comfyui_fitv2.checkpoint import Checkpoint, read_checkpoint
from ...comfyui_fitv2.config import PRECISIONS
from .checks import warn_before_sampling
from .guidance import keep_last_channels_unguided
from .model import FiTModelConfig
from .precision import MATRIX, is_matrix, matrix_dtype

BUNDLED = Path(__file__).resolve().parent.parent.parent / "models"
# Ours first: for a name in both, the file is meant that somebody put into the folder made for it.
CHECKPOINT_FOLDERS = ("fit", "diffusion_models")

WEIGHT_DTYPES: dict[str, torch.dtype | None] = {"auto": None, **PRECISIONS}
"""Precisions of a model's weights by name; None leaves the choice to the host."""


def register_model_folders() -> None:
    """Add ``models/fit`` and the pack's bundled models to the host's folders."""
    folder_paths.add_model_folder_path("fit", str(Path(folder_paths.models_dir) / "fit"))
    for kind in ("fit", "vae"):
        folder_paths.add_model_folder_path(kind, str(BUNDLED / kind))
    paths, extensions = folder_paths.folder_names_and_paths["fit"]
    extensions = extensions | folder_paths.supported_pt_extensions
    folder_paths.folder_names_and_paths["fit"] = paths, extensions


def checkpoint_names() -> list[str]:
    """Names of all files in the checkpoint folders, without duplicates."""
    names = (name for kind in CHECKPOINT_FOLDERS for name in folder_paths.get_filename_list(kind))
    return list(dict.fromkeys(names))


def checkpoint_path(name: str) -> Path:
    """The file of this name. Raises ``FileNotFoundError`` that lists the folders."""
    for kind in CHECKPOINT_FOLDERS:
        path = folder_paths.get_full_path(kind, name)
        if path is not None:
            return Path(path)
    folders = (path for kind in CHECKPOINT_FOLDERS for path in folder_paths.get_folder_paths(kind))
    raise FileNotFoundError(
        f"{name} is in none of the model folders ({', '.join(folders)}). "
        "Put it into one of them, then refresh the node list (R)."
    )


def load(
    path: str, weight_dtype: str = "auto", preset: str | None = None, disable_dynamic: bool = False
) -> ModelPatcher:
    """A checkpoint as the host's MODEL. Raises ``CheckpointError``.

    ``weight_dtype`` is a key of ``WEIGHT_DTYPES``, and ``preset`` one of ``PRESETS`` where the file
    does not tell. ``disable_dynamic`` is for the host: it calls this again through
    ``cached_patcher_init`` to compile a model, or to put it on another device.
    """
    checkpoint = read_checkpoint(path, preset=preset)
    patcher = model_of(checkpoint, weight_dtype, disable_dynamic)
    patcher.cached_patcher_init = (load, (path, weight_dtype, preset))
    return patcher


def load_copy(path: str, weight_dtype: str = "auto") -> ModelPatcher:
    """As ``load``, for a file that another program may remove: afterwards it is not needed."""
    checkpoint = read_checkpoint(path)
    state = checkpoint.state_dict
    # One by one: those of a checkpoint in parts are merged in memory, not mapped.
    copied = {key: state.pop(key).clone() for key in list(state)}
    return model_of(replace(checkpoint, state_dict=copied), weight_dtype)


def model_of(
    checkpoint: Checkpoint, weight_dtype: str = "auto", disable_dynamic: bool = False
) -> ModelPatcher:
    """The host's MODEL of a checkpoint that was read; see ``load``."""
    state_dict = dict(checkpoint.state_dict)
    config = FiTModelConfig(checkpoint.metadata)

    device = model_management.get_torch_device()
    supported = config.supported_inference_dtypes
    dtype = WEIGHT_DTYPES[weight_dtype] or model_management.unet_dtype(
        model_params=sum(value.numel() for value in state_dict.values()),
        supported_dtypes=supported,
        weight_dtype=state_dict[MATRIX].dtype,
    )
    dtype = matrix_dtype(dtype, state_dict)
    cast_dtype = model_management.unet_manual_cast(dtype, device, supported)
    other_dtype = config.store_in(dtype, cast_dtype)

    model = config.get_model(state_dict, "")
    offload_device = model_management.unet_offload_device()
    patcher_class = ModelPatcher if disable_dynamic else CoreModelPatcher
    patcher = patcher_class(model, load_device=device, offload_device=offload_device)
    if not model_management.is_device_cpu(offload_device):
        model.to(offload_device)
    if not patcher.is_dynamic():  # a dynamic one casts weights when it uses them
        # If the file has this dtype already, its mapped weights stay the only copy in memory.
        state_dict = {
            key: value.to(
                offload_device,
                dtype if is_matrix(key) else other_dtype,
                copy=comfy.utils.DISABLE_MMAP,
            )
            for key, value in state_dict.items()
        }
    model.load_model_weights(state_dict, "", assign=True)
    patcher.cached_patcher_init = (model_of, (checkpoint, weight_dtype))
    patcher.set_model_sampler_post_cfg_function(keep_last_channels_unguided)
    warn_before_sampling(patcher)
    return patcher

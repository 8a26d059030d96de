"""Whether a VAE fits a checkpoint, as far as their files tell, said when a prompt is queued.

A VAE of other latents gives noise without any error. One in fp16 is slow on a CPU.
"""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy import model_management
from safetensors import SafetensorError, safe_open

from ...comfyui_fitv2.metadata import METADATA_KEY, Metadata
from . import notices
from .loading import checkpoint_path
from .prompt_graph import VaeUse, vae_uses

_TINY = "taesd_"
"""Start of the tensors' names of a tiny VAE, and of the names of those for Stable Diffusion."""


def check_queued_prompts() -> None:
    """Warn of VAEs that do not fit, or are very slow, whenever a prompt is queued."""
    notices.on_prompt(_warn_of_vaes)


def _warn_of_vaes(prompt: Mapping[str, Any], client_id: str | None) -> None:
    uses = list(dict.fromkeys(vae_uses(prompt)))
    if uses and (slowness := _slowness()):
        notices.warn(slowness, uses[0].node_id, client_id)
    for use in uses:
        fitting = _fitting_instead(use)
        if fitting is not None:
            text = (
                f"Load VAE has {use.vae}, but {use.checkpoint} needs {fitting}: choose it there. "
                "Another VAE gives noise or wrong colours."
            )
            notices.warn(text, use.node_id, client_id)


def _slowness() -> str | None:
    """Why VAEs are very slow, and what to do; None where they are not.

    VAE nodes are ComfyUI's, which chooses the precision.
    """
    device = model_management.vae_device()
    if device.type != "cpu" or model_management.vae_dtype(device) != torch.float16:
        return None
    return (
        "ComfyUI was started with --fp16-vae and runs VAEs on the CPU. Most CPUs have no fp16 "
        "convolutions, and take about twenty times as long. Start it with --bf16-vae or without "
        "either."
    )


def _fitting_instead(use: VaeUse) -> str | None:
    """The VAE to use instead, in words; None where this one fits or nobody can tell.

    There are many VAEs for the latents of Stable Diffusion 1.x. A tiny VAE that a person trained
    has latents of its own.
    """
    metadata = _metadata(use.checkpoint)
    if metadata is None:
        return None
    wanted = metadata.vae_name
    if wanted is None and metadata.latent_format is not None:
        return None
    wanted_file = None if wanted is None else _own_tiny(f"{wanted}.safetensors")
    used_file = _own_tiny(use.vae)
    if wanted_file is None or used_file is None:
        fits = wanted_file is used_file
    else:
        fits = filecmp.cmp(wanted_file, used_file, shallow=False)
    return None if fits else metadata.vae


def _metadata(checkpoint: str) -> Metadata | None:
    """What a checkpoint says; None for a file that the loader will refuse or read otherwise."""
    try:
        with safe_open(checkpoint_path(checkpoint), framework="pt") as file:
            return Metadata.from_json((file.metadata() or {})[METADATA_KEY])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _own_tiny(name: str) -> Path | None:
    """The file of a tiny VAE with latents of its own; None for any other VAE."""
    path = folder_paths.get_full_path("vae", name)
    if path is None or name.startswith(_TINY):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            is_tiny = any(key.startswith(_TINY) for key in file.keys())  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    return Path(path) if is_tiny else None

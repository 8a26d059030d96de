"""Weights in fp8, as some of ComfyUI's flags ask for: which of them, and when it is worth it.

A number in fp8 has two or three bits behind its leading one. benchmarks/fp8.py measures what that
does to images.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

LEAST_SAVING = 100_000_000
"""Bytes that fp8 must save. Below, the memory helps nobody, and the images suffer."""
MATRIX = "blocks.0.attn.qkv.weight"
"""The weight whose dtype in a file tells that of all matrices."""


def is_matrix(key: str) -> bool:
    """Whether a weight is a matrix of attention or an MLP: they hold most of the memory.

    All others stay in 16 bits or more: an error in them reaches every token of every block.
    """
    return key.startswith("blocks.") and key.endswith(".weight") and ".adaLN_" not in key


def matrix_dtype(asked: torch.dtype, weights: Mapping[str, Tensor]) -> torch.dtype:
    """The dtype to store matrices in: the one asked for, or the file's if fp8 is not worth it.

    What was decided about fp8 is in the log. ``weights`` are those of the file, by the model's
    keys.
    """
    own = weights[MATRIX].dtype
    if asked.itemsize > 1 or asked == own:
        return asked
    saving = sum(value.nbytes - value.numel() for key, value in weights.items() if is_matrix(key))
    if torch.finfo(asked).min >= 0:
        reason = "it has no sign, so that no image could be drawn"
    elif saving < LEAST_SAVING:
        reason = f"it would save {saving / 1e6:.0f} MB and change the images"
    else:
        logging.warning(
            "FiT: Weights in %s, as ComfyUI was started with, change the images and save %.0f MB. "
            "For unchanged images choose bf16 as weight_dtype in FiT Loader.",
            *(_name(asked), saving / 1e6),
        )
        return asked
    logging.info(
        "FiT: The weights stay in %s, although ComfyUI was started for %s: %s.",
        *(_name(own), _name(asked), reason),
    )
    return own


def keep_apart(network: nn.Module, dtype: torch.dtype) -> None:
    """Give all weights of a new network but the matrices this dtype, for the host too."""
    for name, module in network.named_modules():
        for own in ("weight", "bias"):
            if is_matrix(f"{name}.{own}"):
                continue
            if isinstance(value := getattr(module, own, None), nn.Parameter):
                setattr(module, own, nn.Parameter(value.to(dtype), value.requires_grad))
            if hasattr(module, f"{own}_comfy_model_dtype"):  # where weights come with the file
                setattr(module, f"{own}_comfy_model_dtype", dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""Whether images of several sizes may share a pass, and what in a MODEL forbids it.

To ComfyUI a pack is one image of shape (1, 1, all values). What other nodes put on a MODEL may read
height and width, or sum over an image, and would then mix the images of a pack. Alone, each image
reaches them as it is.
"""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from .checks import CHECKS_KEY
from .guidance import is_ours

# What is read for each value alone, by the network for each image, or not at all.
_HARMLESS = {
    "transformer_options",
    "disable_cfg1_optimization",
    "denoise_mask_function",
    "multigpu_clones",
}


_HARMLESS_WRAPPERS = {
    (WrappersMP.APPLY_MODEL, "torch.compile"),  # of TorchCompileModel
    (WrappersMP.OUTER_SAMPLE, CHECKS_KEY),
}


def forbids_packing(model: ModelPatcher) -> list[str]:
    """What on a MODEL may depend on an image as a whole, by ComfyUI's names; usually nothing."""
    options: dict[str, Any] = model.model_options
    found = [
        key
        for key, hooks in options.items()
        if key not in _HARMLESS
        and not all(map(is_ours, hooks if isinstance(hooks, list) else [hooks]))
    ]
    transformer_options = options.get("transformer_options", {})
    if any(transformer_options.get("patches_replace", {}).values()):
        found.append("patches_replace")
    for wrappers in (model.wrappers, transformer_options.get("wrappers", {})):
        for kind, by_key in wrappers.items():
            others = (
                hooks for key, hooks in by_key.items() if (kind, key) not in _HARMLESS_WRAPPERS
            )
            if any(others):
                found.append(f"{kind} wrapper")
    found += [key for key in model.object_patches if key.startswith("diffusion_model")]
    return found

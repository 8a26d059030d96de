"""Patches of other nodes that FiT has no place for, and what people are told of them.

ComfyUI keeps patches by the name of the layer that they are for, and a model skips those that it
does not know. Without a warning the image would look as if the node did nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from . import notices

_PATCHES_OF = {
    "attn1_patch": "HyperTile, and Style Aligned and ControlLLLite of ComfyUI-Easy-Use",
    "attn1_output_patch": "HyperTile",
    "attn2_patch": "ControlLLLite of ComfyUI-Easy-Use",
    "input_block_patch": "Kohya's Deep Shrink, and Fooocus Inpaint of ComfyUI-Easy-Use",
    "input_block_patch_after_skip": "Kohya's Deep Shrink",
    "output_block_patch": "FreeU and Kohya's Deep Shrink",
    "attn1": "Perturbed-Attention Guidance; use SkipLayerGuidanceDiT instead",
    "attn2": "IP-Adapter",
}
"""By the layer of a U-Net: the nodes that patch it, and what does the same for FiT."""

_told: ContextVar[set[str] | None] = ContextVar("told of foreign patches", default=None)


@contextmanager
def telling_once() -> Iterator[None]:
    """Tell of each kind of patch once while this is open: for a whole run of a sampler."""
    token = _told.set(set())
    try:
        yield
    finally:
        _told.reset(token)


def tell(transformer_options: Mapping[str, Any], depth: int) -> None:
    """Warn of what ``transformer_options`` hold that a FiT of ``depth`` blocks does not read."""
    told = _told.get()
    patches = transformer_options.get("patches")
    replaced = transformer_options.get("patches_replace")
    if told is None or not (patches or replaced):
        return
    warnings = []
    layers = [name for name, of_layer in (patches or {}).items() if of_layer]
    layers += [name for name, of_layer in (replaced or {}).items() if of_layer and name != "dit"]
    layers = [name for name in layers if name not in told]
    if layers:
        told.update(layers)
        warnings.append(_of_layers(layers))
    missing = _missing_blocks((replaced or {}).get("dit", {}), depth)
    if missing and "dit" not in told:
        told.add("dit")
        warnings.append(_of_blocks(missing, depth))
    if warnings:
        notices.show("", tuple(warnings))


def _of_layers(layers: list[str]) -> str:
    text = (
        f"A node patched layers of another model ({', '.join(layers)}), which FiT does not have: "
        "it has no effect. Remove the node."
    )
    nodes = list(dict.fromkeys(_PATCHES_OF[name] for name in layers if name in _PATCHES_OF))
    return f"{text} Such nodes are {'; '.join(nodes)}." if nodes else text


def _missing_blocks(replacements: Mapping[Any, Any], depth: int) -> list[int]:
    """The replaced blocks if this model has none of them. Nodes that skip layers name those of
    models with two kinds of blocks, and it is enough if one of them is there."""
    named = [key for key in replacements if isinstance(key, tuple) and len(key) > 1]
    if any(key[0] == "double_block" and key[1] in range(depth) for key in named):
        return []
    return sorted({key[1] for key in named if isinstance(key[1], int)})


def _of_blocks(missing: list[int], depth: int) -> str:
    return (
        f"A node replaces blocks that this FiT does not have ({', '.join(map(str, missing))}): it "
        f"has no effect. The double blocks (double_layers) of this model are 0 to {depth - 1}; "
        "choose some of them in the node."
    )

"""The configuration of weights that come without our metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .checkpoint_error import CheckpointError
from .config import PRESETS, FiTConfig
from .metadata import METADATA_KEY
from .weights import Weights

_NO_SUCH_SHAPES = "not a FiTv2: its embedders have shapes that no FiT has."


def config_by_shape(weights: Weights, preset: str | None) -> FiTConfig:
    """The preset of these shapes, or the one named, or what the config.json beside them tells.

    High-resolution presets have the shapes of the base ones, so they must be asked for by name.
    """
    path, tensors = weights.path, weights.tensors
    try:
        hidden = tensors["x_embedder.proj.weight"].shape[0]
        # Without LoRA (version 1) one layer makes the whole modulation.
        rank = (
            tensors["blocks.0.adaLN_modulation.1.weight"].shape[0]
            if "blocks.0.adaLN_modulation.2.weight" in tensors
            else 0
        )
        num_classes = tensors["y_embedder.embedding_table.weight"].shape[0] - 1
    except KeyError as error:
        raise CheckpointError(
            path, f"an incomplete FiTv2 checkpoint: {error.args[0]} is missing."
        ) from None
    except IndexError:  # a tensor without axes
        raise CheckpointError(path, _NO_SUCH_SHAPES) from None
    if num_classes < 1:
        raise CheckpointError(path, _NO_SUCH_SHAPES)
    depth = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    shape = (hidden, depth, rank)
    candidates = {preset: FiTConfig.preset(preset)} if preset else PRESETS
    for config in candidates.values():
        if shape == (config.hidden_size, config.depth, config.adaln_lora_dim):
            return replace(config, num_classes=num_classes)
    if preset is None and (heads := _head_count(weights.config, hidden)) is not None:
        return _config_with_heads(weights, hidden, depth, heads, num_classes, rank)
    expected = "; ".join(
        f"{name}: {c.hidden_size}, {c.depth}, {c.adaln_lora_dim}" for name, c in candidates.items()
    )
    raise CheckpointError(
        path,
        f"a FiTv2 of hidden size {hidden}, {depth} blocks and LoRA rank {rank}, without "
        f"{METADATA_KEY!r} metadata, and no preset has that shape ({expected}). Its head count "
        "cannot be known from the weights: save it with metadata.",
    )


def _head_count(config: Mapping[str, Any], hidden: int) -> int | None:
    """The attention heads that a config.json tells, under our name or that of diffusers."""
    for name in ("num_heads", "num_attention_heads"):
        heads = config.get(name)
        if type(heads) is int and heads > 0 and config.get("hidden_size", hidden) == hidden:
            return heads
    return None


def _config_with_heads(
    weights: Weights, hidden: int, depth: int, heads: int, num_classes: int, rank: int
) -> FiTConfig:
    """The configuration of weights whose config.json tells what their shapes do not."""
    known = ("extrapolation", "decoupled", "train_length", "rope_base", "qk_norm", "prediction")
    also = {name: weights.config[name] for name in (*known, "mlp_ratio") if name in weights.config}
    try:
        return FiTConfig(hidden, depth, heads, num_classes, rank, **also)
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            weights.path, f"a FiTv2 whose config.json cannot be used: {error}"
        ) from None

"""The model before the first step: its weights, which of them are trained, and its classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from comfyui_fitv2.checkpoint import Checkpoint, read_checkpoint
from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.metadata import Metadata
from comfyui_fitv2.resolution import TOKEN_PIXELS

from ..data.latent_set import VAE_FINGERPRINT, VAE_NAME, LatentSetInfo
from ..data.vae import same_latents
from .config import ConfigError, TrainingConfig
from .initial_classes import InitialClasses
from .lora import add_adapters
from .model import TrainedFiT

GROUPS: dict[str, str] = {
    "adaln": r"adaLN_modulation\.",
    "attention": r"\.attn\.",
    "biases": r"\.bias$",
    "final_layer": r"^final_layer\.",
    "label_table": r"^y_embedder\.",
    "mlp": r"^blocks\.\d+\.mlp\.",
    "patch_embedder": r"^x_embedder\.",
    "timestep_embedder": r"^t_embedder\.",
}
"""Names of the weights in each of ``config.TrainableGroup``.

FiT's norms have no weights of their own: AdaLN scales them.
"""

_TABLE = "y_embedder.embedding_table.weight"
_LEAST_TRAIN_LENGTH = 2
"""What ``Extrapolation`` accepts."""
_ROPE_FIELDS = ("rope_base", "train_length", "extrapolation", "decoupled")
_WEIGHT_FIELDS = (
    "hidden_size",
    "depth",
    "num_heads",
    "adaln_lora_dim",
    "patch_size",
    "in_channels",
    "mlp_ratio",
    "qk_norm",
    "prediction",
)


@dataclass(frozen=True, slots=True)
class InitialModel:
    """A model, and all that is known of it before the first step."""

    model: TrainedFiT
    class_names: tuple[str, ...]
    """The classes of the model."""
    class_map: np.ndarray
    """(classes of the latent set,): the model's class id of each."""
    notes: tuple[str, ...] = ()
    """What a person should know, one line each."""
    class_synonyms: Sequence[Sequence[str]] | None = None
    """What else each class is called, as the checkpoint that training starts from says."""


def initial_model(
    config: TrainingConfig, info: LatentSetInfo, device: torch.device | str = "cpu"
) -> InitialModel:
    """Build the model of a run that starts.

    Raises ``ConfigError`` where configuration, checkpoint and latent set do not fit together, and
    ``comfyui_fitv2.CheckpointError`` on a checkpoint in ``init`` that cannot be used.
    """
    checkpoint = read_checkpoint(config.init) if config.init else None
    classes = InitialClasses.of(info.class_names, checkpoint, config)
    model_config = _model_config(config, checkpoint, info, len(classes.names))
    model = _seeded_model(model_config, config, device)
    notes: list[str] = []
    if checkpoint:
        _load(model, checkpoint, classes)
        changes = _rope_changes(checkpoint.metadata.config, model_config)
        notes.append(f"starts from {config.init}{changes}")
    notes += _other_vae(config, checkpoint, info)
    notes += _trained_beyond(model_config, info)
    notes += [*classes.notes, *choose_trainable(model, config)]
    synonyms = _synonyms(checkpoint, classes.rows)
    return InitialModel(model, classes.names, classes.class_map, tuple(notes), synonyms)


def resumed_model(
    config: TrainingConfig, metadata: Metadata, class_map: Sequence[int], info: LatentSetInfo
) -> InitialModel:
    """The model of a run that resumes; the weights that it has trained are still to be loaded.

    A run with adapters needs those in ``init``, too, where it also looks for classes that the
    latent set has got since: they come after those of ``class_map``. Raises ``ConfigError`` where
    the weights are of another architecture or lack such a class, and
    ``comfyui_fitv2.CheckpointError`` where they cannot be used.
    """
    model = _seeded_model(metadata.config, config, "cpu")
    notes: list[str] = []
    if config.lora.rank:
        checkpoint = read_checkpoint(config.init)
        _require_same_weights(metadata.config, checkpoint, config.init)
        model.load_state_dict(checkpoint.state_dict, strict=True)
        if (begun := len(class_map)) < len(info.class_names):
            classes = InitialClasses.of(info.class_names, checkpoint, config)
            class_map = [*class_map, *classes.class_map[begun:].tolist()]
            notes += classes.notes
    notes += choose_trainable(model, config)
    names = tuple(metadata.class_names or ())
    synonyms = metadata.class_synonyms
    return InitialModel(model, names, np.array(class_map), tuple(notes), synonyms)


def _synonyms(
    checkpoint: Checkpoint | None, rows: Sequence[int | None]
) -> list[Sequence[str]] | None:
    """The checkpoint's synonyms of classes that start from these rows of its label table."""
    known = checkpoint.metadata.class_synonyms if checkpoint else None
    return None if known is None else [[] if row is None else known[row] for row in rows]


def choose_trainable(model: TrainedFiT, config: TrainingConfig) -> list[str]:
    """Freeze what is not trained, or add adapters; gives notes on the share that is trained."""
    notes: list[str] = []
    if config.lora.rank:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            names = add_adapters(model, config.lora)
        notes.append(f"LoRA of rank {config.lora.rank} on {len(names)} layers")
    elif config.trainable != "all":
        patterns = [GROUPS[group] for group in config.trainable]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(re.search(pattern, name) for pattern in patterns))
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    share = f"{trained / 1e6:.2f} M of {count / 1e6:.2f} M weights ({100 * trained / count:.2f} %)"
    return [*notes, f"trains {share}"]


def _other_vae(
    config: TrainingConfig, checkpoint: Checkpoint | None, info: LatentSetInfo
) -> list[str]:
    training = checkpoint.metadata.training if checkpoint else {}
    before = training.get(VAE_FINGERPRINT)
    if not before or not info.fingerprint or same_latents(before, info.fingerprint):
        return []
    return [
        f"{config.init} learned latents of the VAE {training.get(VAE_NAME)}, and those of "
        f"{info.vae} are others: expect it to learn almost anew"
    ]


def _model_config(
    config: TrainingConfig, checkpoint: Checkpoint | None, info: LatentSetInfo, num_classes: int
) -> FiTConfig:
    before = checkpoint and checkpoint.metadata.config
    if config.model is not None:
        length = config.model.train_length
        chosen = config.model.for_data(num_classes, info.channels)
    else:
        assert before is not None
        length = 0
        chosen = replace(before, num_classes=num_classes)
    if chosen.in_channels != info.channels:
        raise ConfigError(
            f"{config.init} takes latents of {chosen.in_channels} channels, the latent set has "
            f"{info.channels}. Prepare it with another VAE."
        )
    if checkpoint:
        _require_same_weights(chosen, checkpoint, config.init)
    return chosen if length else replace(chosen, train_length=_train_length(chosen, before, info))


def _train_length(chosen: FiTConfig, before: FiTConfig | None, info: LatentSetInfo) -> int:
    """Tokens per side of the latent set's squares, or of the checkpoint's, which may be larger.

    A checkpoint that extrapolates keeps its own: it decides its rotary frequencies.
    """
    length = max(info.image_size // TOKEN_PIXELS, _LEAST_TRAIN_LENGTH)
    if before is None:
        return length
    return (
        before.train_length if chosen.extrapolation != "none" else max(length, before.train_length)
    )


def _require_same_weights(chosen: FiTConfig, checkpoint: Checkpoint, init: str) -> None:
    before = checkpoint.metadata.config
    wrong = [
        f"{name} {getattr(chosen, name)} (there: {getattr(before, name)})"
        for name in _WEIGHT_FIELDS
        if getattr(chosen, name) != getattr(before, name)
    ]
    if wrong:
        raise ConfigError(
            f"{init} has another architecture than model: {', '.join(wrong)}. Use its --config, or "
            "leave model out."
        )


def _seeded_model(
    model_config: FiTConfig, config: TrainingConfig, device: torch.device | str
) -> TrainedFiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return TrainedFiT(model_config, config.precision, config.activation_checkpointing, device)


def _load(model: TrainedFiT, checkpoint: Checkpoint, classes: InitialClasses) -> None:
    state: dict[str, Tensor] = dict(checkpoint.state_dict)
    before = state.pop(_TABLE)
    table = model.state_dict()[_TABLE].clone()
    for row, source in enumerate([*classes.rows, checkpoint.metadata.config.null_class]):
        if source is not None:
            table[row] = before[source]
    model.load_state_dict({**state, _TABLE: table}, strict=True)


def _trained_beyond(chosen: FiTConfig, info: LatentSetInfo) -> list[str]:
    """A note where images are larger than the model says of itself, and positions the same."""
    length = info.image_size // TOKEN_PIXELS
    if chosen.extrapolation != "none" or length <= chosen.train_length:
        return []
    return [
        f"model.train_length is {chosen.train_length} tokens, but the latent set's images have up "
        f"to {length} x {length}: the checkpoint will count them as beyond training. Set "
        f"--model.train-length {length}, or 0 for the latent set's"
    ]


def _rope_changes(before: FiTConfig, now: FiTConfig) -> str:
    """What differs from the checkpoint in RoPE, which has no weights."""
    changed = [
        f"{name} {getattr(now, name)}"
        for name in _ROPE_FIELDS
        if getattr(now, name) != getattr(before, name)
    ]
    return f", with {', '.join(changed)}" if changed else ""

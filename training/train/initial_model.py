"""The model before the first step: its weights, which of them are trained, and its classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import torch
from torch import Tensor

from comfyui_fitv2.checkpoint import Checkpoint, read_checkpoint
from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.metadata import Metadata

from ..data.latent_set import LatentSetInfo
from .config import ConfigError, TrainingConfig
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


def initial_model(
    config: TrainingConfig, info: LatentSetInfo, device: torch.device | str = "cpu"
) -> InitialModel:
    """Build the model of a run that starts.

    Raises ``ConfigError`` where configuration, checkpoint and latent set do not fit together, and
    ``comfyui_fitv2.CheckpointError`` on a checkpoint in ``init`` that cannot be used.
    """
    checkpoint = read_checkpoint(config.init) if config.init else None
    classes = _Classes.of(info.class_names, checkpoint, config)
    model_config = _model_config(config, checkpoint, info, len(classes.names))
    model = _seeded_model(model_config, config, device)
    notes: list[str] = []
    if checkpoint:
        _load(model, checkpoint, classes)
        changes = _rope_changes(checkpoint.metadata.config, model_config)
        notes.append(f"starts from {config.init}{changes}")
    notes += [*classes.notes, *choose_trainable(model, config)]
    return InitialModel(model, classes.names, classes.class_map, tuple(notes))


def resumed_model(
    config: TrainingConfig, metadata: Metadata, class_map: Sequence[int], info: LatentSetInfo
) -> InitialModel:
    """The model of a run that resumes; the checkpoint's weights are still to be loaded.

    A run with adapters rebuilds it from ``init``; see ``initial_model`` for the errors.
    """
    if config.lora.rank:
        return initial_model(config, info)
    model = _seeded_model(metadata.config, config, "cpu")
    notes = choose_trainable(model, config)
    names = tuple(metadata.class_names or ())
    return InitialModel(model, names, np.array(class_map), tuple(notes))


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


@dataclass(frozen=True, slots=True)
class _Classes:
    names: tuple[str, ...]
    """The classes of the model."""
    class_map: np.ndarray
    rows: list[int | None]
    """For each class of the model, its row in the checkpoint's table; None for random weights."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, names: tuple[str, ...], checkpoint: Checkpoint | None, config: TrainingConfig
    ) -> _Classes:
        """The classes of a model that trains on a latent set with these class ``names``."""
        same = np.arange(len(names))
        if checkpoint is None:
            return cls(names, same, [None] * len(names))
        count, known = checkpoint.metadata.config.num_classes, checkpoint.metadata.class_names
        if config.lora.rank:
            return cls._of_lora(names, tuple(known or map(str, range(count))), config)
        if config.init_classes == "id" or (known is None and len(names) == count):
            rows = [i if i < count else None for i in range(len(names))]
        else:
            rows = _rows_by_name(names, known or ())
        new = [name for name, row in zip(names, rows, strict=True) if row is None]
        if not new:
            return cls(names, same, rows)
        if config.trainable != "all" and "label_table" not in config.trainable:
            raise ConfigError(
                f"{len(new)} classes of the latent set, such as {new[0]!r}, are not among the "
                f"{count} of {config.init}, and the label table is not trained. Add label_table to "
                "trainable, or, if the set's class ids are the checkpoint's, set --init-classes id."
            )
        note = (
            f"{len(new)} of {len(names)} classes start from random weights, such as {new[0]!r}; "
            "the others keep their row of the class table"
        )
        return cls(names, same, rows, (note,))

    @classmethod
    def _of_lora(
        cls, names: tuple[str, ...], known: tuple[str, ...], config: TrainingConfig
    ) -> _Classes:
        """Adapters do not change the class table: each class must be one of the checkpoint's."""
        by_id = config.init_classes == "id"
        ids = list(range(len(names))) if by_id else _rows_by_name(names, known)
        pairs = zip(names, ids, strict=True)
        lost = [name for name, class_id in pairs if class_id is None or class_id >= len(known)]
        if lost:
            nearest = ", ".join(get_close_matches(lost[0], known, n=3, cutoff=0.4))
            raise ConfigError(
                f"lora: the class {lost[0]!r} of the latent set is not among the {len(known)} of "
                f"{config.init}{nearest and f' (nearest: {nearest})'}. An adapter learns no new "
                "classes: rename it, set --init-classes id, or train without lora."
            )
        return cls(known, np.array(ids), list(range(len(known))))


def _rows_by_name(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    if tuple(names) == tuple(known):
        return list(range(len(names)))
    # A name that two classes of one side share identifies neither.
    shared = {
        name
        for sequence in (names, known)
        for name, times in Counter(sequence).items()
        if times > 1
    }
    rows = {name: i for i, name in enumerate(known) if name not in shared}
    return [rows.get(name) for name in names]


def _model_config(
    config: TrainingConfig, checkpoint: Checkpoint | None, info: LatentSetInfo, num_classes: int
) -> FiTConfig:
    if config.model is not None:
        chosen = config.model.for_data(num_classes, info.channels)
    else:
        assert checkpoint is not None
        chosen = replace(checkpoint.metadata.config, num_classes=num_classes)
    if chosen.in_channels != info.channels:
        raise ConfigError(
            f"{config.init} takes latents of {chosen.in_channels} channels, the latent set has "
            f"{info.channels}. Prepare it with another VAE."
        )
    if checkpoint:
        before = checkpoint.metadata.config
        wrong = [
            f"{name} {getattr(chosen, name)} (there: {getattr(before, name)})"
            for name in _WEIGHT_FIELDS
            if getattr(chosen, name) != getattr(before, name)
        ]
        if wrong:
            raise ConfigError(
                f"{config.init} has another architecture than model: {', '.join(wrong)}. Use its "
                "--config, or leave model out."
            )
    return chosen


def _seeded_model(
    model_config: FiTConfig, config: TrainingConfig, device: torch.device | str
) -> TrainedFiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return TrainedFiT(model_config, config.precision, config.activation_checkpointing, device)


def _load(model: TrainedFiT, checkpoint: Checkpoint, classes: _Classes) -> None:
    state: dict[str, Tensor] = dict(checkpoint.state_dict)
    before = state.pop(_TABLE)
    table = model.state_dict()[_TABLE].clone()
    for row, source in enumerate([*classes.rows, checkpoint.metadata.config.null_class]):
        if source is not None:
            table[row] = before[source]
    model.load_state_dict({**state, _TABLE: table}, strict=True)


def _rope_changes(before: FiTConfig, now: FiTConfig) -> str:
    """What differs from the checkpoint in RoPE, which has no weights."""
    changed = [
        f"{name} {getattr(now, name)}"
        for name in _ROPE_FIELDS
        if getattr(now, name) != getattr(before, name)
    ]
    return f", with {', '.join(changed)}" if changed else ""

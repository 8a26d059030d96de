"""What a run starts from: new weights or a checkpoint's, which of them are trained, and which class is whose."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comfyui_fitv2.checkpoint import Checkpoint, read_checkpoint
from comfyui_fitv2.config import FiTConfig

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
"""Names of the weights in each of ``config.TrainableGroup``. FiT's norms have no weights of their own: AdaLN is what scales them."""

_TABLE = "y_embedder.embedding_table.weight"
_SHAPES = (
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
class Start:
    """A model, and all that is known of it before the first step."""

    model: TrainedFiT
    class_names: tuple[str, ...]
    """Of the model."""
    labels: np.ndarray
    """(classes of the set,): the model's id of each class of the latent set."""
    report: list[str] = field(default_factory=list)
    """What a person should know, a line each."""

    def summary(self) -> dict[str, Any]:
        """What a checkpoint must know to be gone on from."""
        return {
            "fit": asdict(self.model.config),
            "class_names": list(self.class_names),
            "labels": self.labels.tolist(),
        }


def resumed_start(config: TrainingConfig, summary: Mapping[str, Any], info: LatentSetInfo) -> Start:
    """The model of a run that goes on, whose weights a checkpoint will replace. Raises as ``start_of``, whose way adapters need to find their base."""
    if config.lora:
        return start_of(config, info)
    model = _seeded_model(FiTConfig.from_dict(summary["fit"]), config, "cpu")
    start = Start(model, tuple(summary["class_names"]), np.array(summary["labels"]))
    choose_trainable(start, config)
    return start


def start_of(
    config: TrainingConfig, info: LatentSetInfo, device: torch.device | str = "cpu"
) -> Start:
    """Build the model of a run that begins. Raises ``ConfigError`` where configuration, checkpoint and latent set do not fit together, and
    ``CheckpointError`` on an unusable checkpoint."""
    checkpoint = read_checkpoint(config.init) if config.init else None
    classes = _Classes.of(info.class_names, checkpoint, config)
    fit = _architecture(config, checkpoint, info, len(classes.names))
    model = _seeded_model(fit, config, device)
    if checkpoint:
        _load(model, checkpoint, classes)
    start = Start(model, classes.names, classes.labels, classes.report)
    if checkpoint:
        start.report.insert(
            0, f"starts from {config.init}{_changes(checkpoint.metadata.config, fit)}"
        )
    choose_trainable(start, config)
    return start


def choose_trainable(start: Start, config: TrainingConfig) -> None:
    """Freeze what is not trained, add adapters, and report the share of the weights that is trained."""
    model = start.model
    if config.lora:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            names = add_adapters(model, config.lora)
        start.report.append(f"LoRA of rank {config.lora.rank} on {len(names)} layers")
    elif config.trainable != "all":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(
                any(re.search(GROUPS[group], name) for group in config.trainable)
            )
    counts = [
        sum(p.numel() for p in model.parameters() if not trained or p.requires_grad)
        for trained in (False, True)
    ]
    start.report.append(
        f"trains {counts[1] / 1e6:.2f} M of {counts[0] / 1e6:.2f} M weights ({100 * counts[1] / counts[0]:.2f} %)"
    )


@dataclass(frozen=True, slots=True)
class _Classes:
    names: tuple[str, ...]
    labels: np.ndarray
    rows: list[int | None]
    """Of each of the model's classes, the checkpoint's; None starts anew."""
    report: list[str]

    @classmethod
    def of(
        cls, names: tuple[str, ...], checkpoint: Checkpoint | None, config: TrainingConfig
    ) -> _Classes:
        same = np.arange(len(names))
        if checkpoint is None:
            return cls(names, same, [None] * len(names), [])
        count, known = checkpoint.metadata.config.num_classes, checkpoint.metadata.class_names
        if config.lora:
            return cls._of_lora(names, tuple(known or map(str, range(count))), config)
        by_id = config.init_classes == "id" or (known is None and len(names) == count)
        rows = (
            [i if i < count else None for i in range(len(names))]
            if by_id
            else _rows_by_name(names, known or ())
        )
        new = [name for name, row in zip(names, rows, strict=True) if row is None]
        if new and config.trainable != "all" and "label_table" not in config.trainable:
            raise ConfigError(
                f"{len(new)} classes of the latent set, such as {new[0]!r}, are not among the {count} of {config.init}, and the label table is not trained. "
                "Add label_table to trainable, or, where the set's class ids are the checkpoint's, set --init_classes id."
            )
        report = (
            [
                f"{len(new)} of {len(names)} classes start anew, such as {new[0]!r}; the others keep their row of the class table"
            ]
            if new
            else []
        )
        return cls(names, same, rows, report)

    @classmethod
    def _of_lora(
        cls, names: tuple[str, ...], known: tuple[str, ...], config: TrainingConfig
    ) -> _Classes:
        """An adapter leaves the class table as it is: each class of the set must be one of the checkpoint's."""
        labels = (
            list(range(len(names))) if config.init_classes == "id" else _rows_by_name(names, known)
        )
        lost = [
            name
            for name, label in zip(names, labels, strict=True)
            if label is None or label >= len(known)
        ]
        if lost:
            nearest = ", ".join(get_close_matches(lost[0], known, n=3, cutoff=0.4))
            raise ConfigError(
                f"lora: the class {lost[0]!r} of the latent set is not among the {len(known)} of {config.init}{nearest and f' (nearest: {nearest})'}. "
                "An adapter learns no new classes: rename it, set --init_classes id, or train without lora."
            )
        return cls(known, np.array(labels), list(range(len(known))), [])


def _rows_by_name(names: Sequence[str], known: Sequence[str]) -> list[int | None]:
    if tuple(names) == tuple(known):
        return list(range(len(names)))
    shared = {
        name
        for sequence in (names, known)
        for name, times in Counter(sequence).items()
        if times > 1
    }  # by two classes: it tells neither
    rows = {name: i for i, name in enumerate(known) if name not in shared}
    return [rows.get(name) for name in names]


def _architecture(
    config: TrainingConfig, checkpoint: Checkpoint | None, info: LatentSetInfo, num_classes: int
) -> FiTConfig:
    if config.model is None:
        assert checkpoint is not None
        fit = replace(checkpoint.metadata.config, num_classes=num_classes)
    else:
        fit = config.model.fit(num_classes, info.channels)
    if fit.in_channels != info.channels:
        raise ConfigError(
            f"{config.init} takes latents of {fit.in_channels} channels, the latent set has {info.channels}. Prepare it with another VAE."
        )
    if checkpoint:
        before = checkpoint.metadata.config
        wrong = [
            f"{name} {getattr(fit, name)} (there: {getattr(before, name)})"
            for name in _SHAPES
            if getattr(fit, name) != getattr(before, name)
        ]
        if wrong:
            raise ConfigError(
                f"{config.init} is another architecture than model: {', '.join(wrong)}. Take its --config, or leave model out."
            )
    return fit


def _seeded_model(fit: FiTConfig, config: TrainingConfig, device: torch.device | str) -> TrainedFiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return TrainedFiT(fit, config.precision, config.activation_checkpointing, device)


def _load(model: TrainedFiT, checkpoint: Checkpoint, classes: _Classes) -> None:
    state: dict[str, Tensor] = dict(checkpoint.state_dict)
    before = state.pop(_TABLE)
    table = model.state_dict()[_TABLE].clone()
    for row, source in enumerate([*classes.rows, checkpoint.metadata.config.null_class]):
        if source is not None:
            table[row] = before[source]
    model.load_state_dict({**state, _TABLE: table}, strict=True)


def _changes(before: FiTConfig, fit: FiTConfig) -> str:
    """What of RoPE is another than in the checkpoint."""
    changed = [
        f"{name} {getattr(fit, name)}"
        for name in ("rope_base", "train_length", "extrapolation", "decoupled")
        if getattr(fit, name) != getattr(before, name)
    ]
    return f", with {', '.join(changed)}" if changed else ""

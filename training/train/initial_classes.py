"""The classes that a model starts with, and where the weights of each come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from comfyui_fitv2.checkpoint import Checkpoint

from .class_map import (
    COMPARED,
    ClassMatch,
    describe,
    match_by_id,
    match_classes,
    nearest,
    pairing,
    quoted,
)
from .config import ConfigError, TrainingConfig


@dataclass(frozen=True, slots=True)
class InitialClasses:
    """The classes of a model before its first step."""

    names: tuple[str, ...]
    """The classes of the model."""
    class_map: np.ndarray
    rows: list[int | None]
    """For each class of the model, its row in the checkpoint's table; None for random weights."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, names: tuple[str, ...], checkpoint: Checkpoint | None, config: TrainingConfig
    ) -> InitialClasses:
        """The classes of a model that trains on a latent set with these class ``names``."""
        same = np.arange(len(names))
        if checkpoint is None:
            return cls(names, same, [None] * len(names))
        known = checkpoint.metadata.class_names
        matches = _matches(names, checkpoint, config)
        new = [match for match in matches if match.class_id is None]
        if config.lora.rank:
            count = checkpoint.metadata.config.num_classes
            if new:
                raise ConfigError(_adapter_error(matches, new, known, count, config.init))
            class_map = np.array([match.class_id for match in matches])
            names = tuple(known or map(str, range(count)))
            return cls(names, class_map, list(range(count)), tuple(describe(matches, known)))
        if new and config.trainable != "all" and "label_table" not in config.trainable:
            raise ConfigError(
                f"{len(new)} of {len(names)} classes of the latent set, such as {new[0].name!r}, "
                f"are not among those of {config.init}, and the label table is not trained. Add "
                f"label_table to trainable, or set {_pair_option(new, known)}, or, if the set's "
                "class ids are the checkpoint's, --init-classes id."
            )
        rows = [match.class_id for match in matches]
        if config.init_classes == "new":
            return cls(names, same, rows, (f"all {len(names)} classes start anew",))
        return cls(names, same, rows, tuple(describe(matches, known)))


def _matches(
    names: tuple[str, ...], checkpoint: Checkpoint, config: TrainingConfig
) -> list[ClassMatch]:
    """The checkpoint's class of each of the latent set's, as ``init_classes`` says."""
    metadata = checkpoint.metadata
    known, count = metadata.class_names, metadata.config.num_classes
    if config.init_classes == "new":
        return [ClassMatch(name) for name in names]
    if config.init_classes == "id":
        return match_by_id(names, count)
    try:
        matches = match_classes(names, known, count, config.init_pairs, metadata.class_synonyms)
    except ValueError as error:
        raise ConfigError(f"init_pairs: {error}") from None
    if any(match.class_id is not None for match in matches):
        return matches
    if known is None and len(names) == count:
        return match_by_id(names, count)
    if config.lora.rank:
        return matches  # which adapters need in any case
    raise ConfigError(
        f"None of the {len(names)} classes of the latent set ({quoted(names, 3)}) is a class of "
        f"{config.init} ({_classes_of(known, count)}){_near(names, known)}. Set "
        f"{_pair_option(matches, known)}, --init-classes id if class 0 of the set is class 0 of "
        "the checkpoint, and so on, or --init-classes new to start all classes anew."
    )


def _adapter_error(
    matches: Sequence[ClassMatch],
    new: Sequence[ClassMatch],
    known: Sequence[str] | None,
    count: int,
    init: str,
) -> str:
    """Adapters do not change the class table: each class must be one of the checkpoint's."""
    lost = [match.name for match in new]
    return (
        f"lora: {len(lost)} of {len(matches)} classes of the latent set ({quoted(lost, 3)}) are "
        f"not among those of {init} ({_classes_of(known, count)}){_near(lost, known)}. An adapter "
        f"learns no new classes. Set {_pair_option(new, known)}, --init-classes "
        "id to take the classes in order, or train without lora."
    )


def _pair_option(matches: Sequence[ClassMatch], known: Sequence[str] | None) -> str:
    option = pairing(matches, known)
    return f"{option} if two are the same" if option else "--init-pairs NAME CLASS for each"


def _classes_of(known: Sequence[str] | None, count: int) -> str:
    return f"{count} without names" if known is None else f"{count}: {quoted(known, 3)}"


def _near(names: Sequence[str], known: Sequence[str] | None) -> str:
    near = ((name, nearest(name, known or (), count=1)) for name in names[:COMPARED])
    pairs = [f"{name!r} ~ {other[0]!r}" for name, other in near if other][:3]
    return f"; nearest: {', '.join(pairs)}" if pairs else ""

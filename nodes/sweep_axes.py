"""The lists that people type into FiT Resolution Sweep, as the values of its axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from ..comfyui_fitv2.extrapolation import ATTENTION_SCALES, Extrapolation
from ..comfyui_fitv2.labels import Blend, Label, resolve_labels, split_list
from ..comfyui_fitv2.metadata import Metadata
from ..comfyui_fitv2.number_list import parse_numbers
from ..comfyui_fitv2.typed_text import COMMA
from . import host
from .sweep_cells import Choice, Combination

MODELS_OWN = "default"
"""The MODEL as it is, and the extrapolation that it has."""


def entries(what: str, text: str) -> list[str]:
    """The different entries of a list. Raises ``ValueError`` where there are none."""
    found = list(dict.fromkeys(split_list(text)))
    if not found:
        raise ValueError(f"{what} is empty: write one entry per line, or separate with semicolons.")
    return found


def classes(text: str, checkpoints: dict[str, Metadata]) -> dict[str, list[Label | Blend]]:
    """The classes of a list in each checkpoint, in one order.

    Raises ``ValueError`` where a checkpoint lacks one, or has more of them under one name.
    """
    found: dict[str, list[Label | Blend]] = {}
    for name, metadata in checkpoints.items():
        try:
            found[name] = resolve_labels(
                text, metadata.class_names, metadata.config.num_classes, metadata.class_synonyms
            )
        except ValueError as error:
            if name == MODELS_OWN:
                raise
            raise ValueError(f"In {name}: {error}") from None
    counts = {name: len(labels) for name, labels in found.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise ValueError(
            f"The classes {text!r} are {said}. Separate them with semicolons, and write names that "
            "all checkpoints have."
        )
    return found


def class_axis(labels: Sequence[Label | Blend]) -> list[Choice]:
    """The different classes. Their places stand for them: ids differ between checkpoints."""
    first = {str(label): place for place, label in reversed(list(enumerate(labels)))}
    return [Choice(name, place) for name, place in reversed(first.items())]


def method(text: str) -> Extrapolation | None:
    """The extrapolation of an entry; None is the model's own."""
    return None if text.lower() == MODELS_OWN else Extrapolation.parse(text)


def chosen_extrapolation(model: host.ModelPatcher) -> Extrapolation | None:
    """What a node has set on a MODEL; None where it is the checkpoint's own.

    What it took from the MODEL's checkpoint is left out, because another one may be put in place.
    """
    config = host.require_fit(model).metadata.config
    chosen = host.extrapolation_of(model)
    if chosen == config.default_extrapolation:
        return None
    length = chosen.train_length
    return replace(
        chosen, recommended=(), train_length=None if length == config.train_length else length
    )


def extrapolation(values: Combination, otherwise: Extrapolation) -> Extrapolation:
    """That of a combination: of its method, or ``otherwise``, and of its attention scale."""
    of_method = values["methods"] or otherwise
    scale = values.get("attention scales")
    return of_method if scale is None else replace(of_method, attention_scale=scale)


def attention_scales(text: str, methods: str) -> list[Choice]:
    """The attention scales of a list. Raises ``ValueError`` where methods have some already."""
    scales = words("attention_scales", text, ATTENTION_SCALES)
    if scales and (both := [entry for entry in split_list(methods) if "+" in entry]):
        raise ValueError(
            f"The method {both[0]!r} has an attention scale, and attention_scales lists others. "
            "Write attention scales in one of the two lists only."
        )
    return [
        Choice("no attention scale" if scale == "none" else f"attention scale {scale}", scale)
        for scale in scales
    ]


def words(what: str, text: str, known: Iterable[str]) -> list[str]:
    """The different words of a list, in the spelling of those that are ``known``."""
    spelt = {name.lower(): name for name in known}
    found = []
    for entry in split_list(COMMA.sub(";", text)):
        if entry.lower() not in spelt:
            raise ValueError(
                f"{what}: {entry!r} is unknown. Choose from {', '.join(spelt.values())}."
            )
        found.append(spelt[entry.lower()])
    return list(dict.fromkeys(found))


def numbers(
    what: str, name: str, text: str, least: float, most: float, *, whole: bool = True
) -> list[Choice]:
    """The numbers of a list; ``name`` is a format of what a row with one is called."""
    found = parse_numbers(what, text, least, most, whole=whole)
    return [Choice(name.format(number), number) for number in found]


def checkpoints(text: str, own: Metadata) -> dict[str, Metadata]:
    """The checkpoints of a list by their names in FiT Loader; the MODEL alone without a list.

    Raises ``ValueError`` for one that FiT Loader does not list.
    """
    found = {}
    for entry in split_list(text) or [MODELS_OWN]:
        if entry.lower() == MODELS_OWN:
            found[MODELS_OWN] = own
            continue
        name = host.find_checkpoint(entry)
        if name is None:
            raise ValueError(
                f"checkpoints: no file of FiT Loader is called {entry!r}. There are "
                f"{', '.join(host.checkpoint_names())}."
            )
        found[name] = host.read_metadata(name)
    return found


def checkpoint_axis(names: Sequence[str]) -> list[Choice]:
    """Files without folders and endings, where that tells them apart."""
    short = [PurePath(name.replace("\\", "/")).stem for name in names]
    shown = names if len(set(short)) < len(short) else short
    return [
        Choice("the model" if name == MODELS_OWN else text, name)
        for name, text in zip(names, shown, strict=True)
    ]

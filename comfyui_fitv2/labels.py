"""From the class names that people type to classes, or an error with the nearest names."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from .class_index import IMAGENET_PAIRS, ClassIndex, name_key, name_keys
from .label import Blend, Entry, Label, LabelError, class_tensor, class_weights, listed, parts_of
from .label_list import LabelList
from .typed_text import SEMICOLON, trim

__all__ = [
    "IMAGENET_CLASSES",
    "Blend",
    "Entry",
    "Label",
    "LabelError",
    "class_tensor",
    "class_weights",
    "imagenet_class_names",
    "name_keys",
    "parse_classes",
    "parts_of",
    "read_entries",
    "resolve_class",
    "resolve_labels",
    "split_list",
]

IMAGENET_CLASSES = 1000
_EVERY_CLASS = ("all", "*")


def imagenet_class_names() -> list[str] | None:
    """Names of the 1,000 ImageNet classes by id; None without torchvision.

    torchvision is optional: it is imported here alone, for the names that its public weights carry,
    and official checkpoints, which hold none, are used by class id without it.
    """
    try:
        from torchvision.models import ResNet50_Weights
    except ImportError:
        return None
    return [
        IMAGENET_PAIRS.get(i, name)
        for i, name in enumerate(map(str, ResNet50_Weights.DEFAULT.meta["categories"]))
    ]


def split_list(text: str) -> list[str]:
    """The entries of a list that people type, separated by semicolons or line ends of any script.

    Entries lose outer spaces, and empty ones are left out. Commas do not separate: names hold them.
    """
    return [entry for part in SEMICOLON.split(text) if (entry := trim(part))]


def parse_classes(
    text: str,
    class_names: Sequence[str] | None,
    num_classes: int,
    synonyms: Sequence[Sequence[str]] | None = None,
) -> list[Label | Blend]:
    """The labels of "all" or "*", every class, or of a list as ``resolve_labels`` reads it.

    Raises ``LabelError`` as ``resolve_labels`` does, and for "all" where a class is called so.
    """
    typed = unicodedata.normalize("NFKC", trim(text)).lower()
    if typed not in _EVERY_CLASS:
        return resolve_labels(text, class_names, num_classes, synonyms)
    everything = [Label(i, class_names[i] if class_names else None) for i in range(num_classes)]
    if called := [label for label in everything if name_key(label.name or "") == typed]:
        other = _EVERY_CLASS[typed == "all"]
        raise LabelError(
            f'"{trim(text)}" could be every class or {listed(called, "or")}. Type "{other}" for '
            "every class, or the class with its id."
        )
    return [*everything]


def resolve_labels(
    text: str,
    class_names: Sequence[str] | None,
    num_classes: int,
    synonyms: Sequence[Sequence[str]] | None = None,
) -> list[Label | Blend]:
    """The labels of a list such as "Finland; 16; 12 · Germany; 0.7*France + 0.3*Italy".

    An entry is a name, one of the ``synonyms`` of its class (a list for each class), a part of a
    name between commas, a class id, or "id · name", as ``Label`` prints it. Case, accents, hyphens
    and underscores do not matter. Plus signs blend classes, each with a weight before it or with
    the weight 1; weights are scaled to the sum 1. Semicolons and line ends separate entries, and
    commas do where the whole is no class. A name that holds such signs is read whole: what
    ``Label`` and ``Blend`` print can always be typed again.

    Raises ``LabelError`` for an empty text, an unknown entry, a name that several classes share,
    and weights that are no numbers, below 0 or all 0.
    """
    entries = read_entries(text, class_names, num_classes, synonyms)
    if not entries:
        raise LabelError(
            f"No class was given. Type a name, an id of 0 to {num_classes - 1}, or several with "
            "semicolons between them."
        )
    for entry in entries:
        if entry.error:
            raise LabelError(entry.error, entry.nearest)
    return [entry.label for entry in entries if entry.label]


def resolve_class(
    text: str,
    class_names: Sequence[str] | None,
    num_classes: int,
    synonyms: Sequence[Sequence[str]] | None = None,
) -> Label:
    """The one class that ``text`` names, read as ``resolve_labels`` does.

    Raises ``LabelError`` as it does, and for several classes and blends.
    """
    labels = resolve_labels(text, class_names, num_classes, synonyms)
    if len(labels) > 1 or not isinstance(labels[0], Label):
        raise LabelError(f'"{text}" is {listed(labels, "and")}. Name one class.')
    return labels[0]


def read_entries(
    text: str,
    class_names: Sequence[str] | None,
    num_classes: int,
    synonyms: Sequence[Sequence[str]] | None = None,
) -> list[Entry]:
    """The entries of a list as ``resolve_labels`` reads it, each with its place in ``text``.

    An entry that is no class has an error and the nearest classes. Where a part of a blend cannot
    be read, each part is an entry of its own, without its weight, so that it can be replaced alone.
    """
    return _list_of(
        None if class_names is None else tuple(class_names),
        num_classes,
        None if synonyms is None else tuple(map(tuple, synonyms)),
    ).read(text)


@lru_cache(maxsize=8)
def _list_of(
    names: tuple[str, ...] | None, count: int, synonyms: tuple[tuple[str, ...], ...] | None
) -> LabelList:
    """Kept, because an index of some thousand synonyms takes tens of milliseconds to make."""
    return LabelList(ClassIndex(names, count, synonyms))

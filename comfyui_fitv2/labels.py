"""From the class names that people type to class ids, or an error with the nearest names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

IMAGENET_CLASSES = 1000
SUGGESTIONS = 5
# torchvision tells these apart from 517 "crane" and 638 "maillot" with a word in the name. People
# know each pair under one name, so the bare word is added as a synonym, and typing it is reported
# as ambiguous instead of silently picking one class.
_IMAGENET_SYNONYMS = {134: "crane, bird", 639: "maillot, tank suit"}


class LabelError(ValueError):
    """A label that no class has, or that several classes share."""


@dataclass(frozen=True, slots=True)
class Label:
    """A class of a model; the name is None where its checkpoint has no names."""

    id: int
    name: str | None

    def __str__(self) -> str:
        return str(self.id) if self.name is None else f"{self.id} · {self.name}"


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
        _IMAGENET_SYNONYMS.get(i, name)
        for i, name in enumerate(map(str, ResNet50_Weights.DEFAULT.meta["categories"]))
    ]


def split_list(text: str) -> list[str]:
    """The entries of a list that people type, separated by semicolons or line ends.

    Entries lose outer spaces, and empty ones are left out. Commas do not separate: names hold them.
    """
    return [entry.strip() for entry in re.split(r"[;\n]", text) if entry.strip()]


def parse_classes(text: str, class_names: Sequence[str] | None, num_classes: int) -> list[Label]:
    """The labels of "all", or of a list that commas may separate too, such as "France, Finland".

    A name that holds a comma is read whole, or with semicolons between entries. Raises
    ``LabelError`` as ``resolve_labels`` does.
    """
    if text.strip().lower() == "all":
        return [Label(i, class_names[i] if class_names else None) for i in range(num_classes)]
    if "," in text and ";" not in text:
        try:
            return resolve_labels(text, class_names, num_classes)
        except LabelError:
            text = text.replace(",", ";")
    return resolve_labels(text, class_names, num_classes)


def resolve_labels(text: str, class_names: Sequence[str] | None, num_classes: int) -> list[Label]:
    """The labels of a list such as "Finland; 16; 12 · Germany"; see ``split_list``.

    An entry is a name, one of the synonyms that commas separate in a name, a class id, or "id ·
    name". Case, accents and underscores do not matter. Raises ``LabelError`` for an empty text, an
    unknown entry, and a name that several classes share.
    """
    entries = split_list(text)
    if not entries:
        raise LabelError(
            f"No class was given. Type a name, an id of 0 to {num_classes - 1}, or several with "
            "semicolons between them."
        )
    return [_resolve(entry, class_names, num_classes) for entry in entries]


def _resolve(entry: str, class_names: Sequence[str] | None, num_classes: int) -> Label:
    def label(class_id: int) -> Label:
        return Label(class_id, class_names[class_id] if class_names else None)

    synonyms = [{_key(name), *map(_key, name.split(","))} for name in class_names or ()]
    found = {i for i, keys in enumerate(synonyms) if _key(entry) in keys}
    if entry.isdecimal() and int(entry) < num_classes:
        found.add(int(entry))
    if len(found) == 1:
        return label(found.pop())
    if found:
        candidates = _listing([label(i) for i in sorted(found)], "or")
        raise LabelError(f'"{entry}" could be {candidates}. Type one of these in full.')

    with_id = re.fullmatch(r"(\d+)\s*·\s*(.+)", entry)
    if with_id and int(with_id[1]) < num_classes:
        named = label(int(with_id[1]))
        if named.name is None or _key(with_id[2]) in synonyms[named.id]:
            return named
        raise LabelError(f'"{entry}" does not fit this model, where {named.id} is "{named.name}".')
    if entry.isdecimal() or class_names is None:
        unnamed = "" if class_names else " This checkpoint carries no class names."
        raise LabelError(f'"{entry}" is no class id: ids are 0 to {num_classes - 1}.{unnamed}')
    nearest = _nearest(_key(entry), [_key(name) for name in class_names])
    hint = (
        f"The nearest are {_listing([label(i) for i in nearest], 'and')}."
        if nearest
        else f"Try {label(0)}, or an id up to {num_classes - 1}."
    )
    raise LabelError(f'No class is called "{entry}". {hint}')


def _nearest(key: str, keys: Sequence[str]) -> list[int]:
    """Ids of the most similar names: those that contain the text, then those spelt like it."""
    holding = sorted((i for i, k in enumerate(keys) if key in k), key=lambda i: len(keys[i]))
    alike = get_close_matches(key, keys, n=SUGGESTIONS, cutoff=0.5)
    ranked = holding + [i for match in alike for i, k in enumerate(keys) if k == match]
    return list(dict.fromkeys(ranked))[:SUGGESTIONS]


def _listing(labels: Sequence[Label], conjunction: str) -> str:
    quoted = [f'"{label}"' for label in labels]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {conjunction} {quoted[-1]}"


def _key(name: str) -> str:
    """A name without what people leave out: case, accents, underscores, extra spaces."""
    decomposed = unicodedata.normalize("NFKD", name)
    letters = "".join(c for c in decomposed if not unicodedata.combining(c))
    return " ".join(letters.casefold().replace("_", " ").split())


def name_keys(name: str) -> list[str]:
    """What a class name is compared by: the whole name first, then each synonym in it."""
    return list(dict.fromkeys([_key(name), *map(_key, name.split(","))]))

"""Class names: from what a person types to the id that the model knows, or to an error that offers the nearest names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

IMAGENET_CLASSES = 1000
SUGGESTIONS = 5
# torchvision tells these apart from 517 "crane" and 638 "maillot" by a word in the name. People know each pair by one name, so
# they are given it back as a synonym: typed alone it is then ambiguous, not silently the other class.
_IMAGENET_SYNONYMS = {134: "crane, bird", 639: "maillot, tank suit"}


class LabelError(ValueError):
    """A label that is unknown or that several classes answer to."""


@dataclass(frozen=True, slots=True)
class Label:
    id: int
    name: str | None

    def __str__(self) -> str:
        return str(self.id) if self.name is None else f"{self.id} · {self.name}"


def imagenet_class_names() -> list[str] | None:
    """Names of the 1,000 ImageNet classes by id, as torchvision's public weights carry them; None without torchvision."""
    try:
        from torchvision.models import ResNet50_Weights
    except ImportError:
        return None
    return [
        _IMAGENET_SYNONYMS.get(i, name)
        for i, name in enumerate(map(str, ResNet50_Weights.DEFAULT.meta["categories"]))
    ]


def resolve_labels(text: str, class_names: Sequence[str] | None, num_classes: int) -> list[Label]:
    """The labels of a text such as "Finland; 16; 12 · Germany", one an entry between semicolons or line ends.

    An entry is a name (case, accents and underscores do not matter), one of the synonyms that commas part in a name, an id, or
    "id · name". Raises ``LabelError`` on an empty text, an unknown entry, and a name that several classes share.
    """
    entries = [entry.strip() for entry in re.split(r"[;\n]", text) if entry.strip()]
    if not entries:
        raise LabelError(
            f"No class was given. Type a name, an id of 0 to {num_classes - 1}, or several with semicolons between."
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
        raise LabelError(
            f'"{entry}" could be {_listing([label(i) for i in sorted(found)], "or")}. Type one of these whole.'
        )

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
    """Ids by likeness: names that hold the text first, then those spelt like it."""
    holding = sorted((i for i, k in enumerate(keys) if key in k), key=lambda i: len(keys[i]))
    alike = get_close_matches(key, keys, n=SUGGESTIONS, cutoff=0.5)
    ranked = holding + [i for match in alike for i, k in enumerate(keys) if k == match]
    return list(dict.fromkeys(ranked))[:SUGGESTIONS]


def _listing(labels: Sequence[Label], conjunction: str) -> str:
    quoted = [f'"{label}"' for label in labels]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {conjunction} {quoted[-1]}"


def _key(name: str) -> str:
    """A name without the differences that nobody means: case, accents, underscores, runs of spaces."""
    letters = "".join(
        c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c)
    )
    return " ".join(letters.casefold().replace("_", " ").split())

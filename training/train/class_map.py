"""Which class of a checkpoint each class of a latent set is, by the names of both."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from comfyui_fitv2.labels import (
    IMAGENET_CLASSES,
    imagenet_class_names,
    name_keys,
    resolve_class,
)

from ..command_line import to_type

_WORDNET_FILE = Path(__file__).with_name("imagenet_wordnet_ids.txt")
_WORDNET_ID = re.compile(r"(n\d{8})(?![0-9A-Za-z])")
_IMAGENET_SHARE = 0.9
"""Names that agree with this share of ImageNet's, class by class, are ImageNet's."""
_LISTED = 6
COMPARED = 50
"""Names for which a likely match is looked for, which takes some milliseconds each."""
_NEAR = 0.75
"""Similarity, from 0 to 1, from which a name may be another one that is misspelt."""


@dataclass(frozen=True, slots=True)
class ClassMatch:
    """What was found for one class of a latent set."""

    name: str
    class_id: int | None = None
    """The checkpoint's class; None where it has none, or several, with that name."""
    reason: str = ""
    """How it was found: "name", "spelling", "WordNet id", "synonym", "pair" or "id"."""
    candidates: tuple[int, ...] = ()
    """The checkpoint's classes where several have the name."""


def match_classes(
    names: Sequence[str],
    known: Sequence[str] | None,
    num_classes: int,
    pairs: Mapping[str, str] | None = None,
    synonyms: Sequence[Sequence[str]] | None = None,
) -> list[ClassMatch]:
    """Find each of the ``names`` of a latent set among the classes of a checkpoint.

    ``known`` are the checkpoint's names in order of class id; without any, a name that is a number
    is a class id. The first way that finds classes counts: the same name; the same but for case,
    accents and underscores; the same WordNet id; one of the checkpoint's ``synonyms``, a list for
    each class; a name that has all the synonyms of the other.
    ``pairs`` says for names of the set which class they are, and wins. Raises ``ValueError`` for a
    pair with a class that its side does not have.
    """
    if pairs is None:
        pairs = {}
    if unknown := [name for name in pairs if name not in names]:
        near = quoted(nearest(unknown[0], names))
        raise ValueError(
            f"the latent set has no class {unknown[0]!r}{near and f' (nearest: {near})'}."
        )
    if known is not None and tuple(names) == tuple(known):
        return [ClassMatch(name, i, "name") for i, name in enumerate(names)]
    index = _Index(known, num_classes, synonyms)
    times = Counter(names)
    matches = []
    for name in names:
        if name in pairs:
            label = resolve_class(pairs[name], known, num_classes, synonyms)
            matches.append(ClassMatch(name, label.id, "pair"))
        elif times[name] > 1:  # a name that two classes of the set share tells neither
            matches.append(ClassMatch(name))
        else:
            matches.append(index.find(name))
    return matches


def match_by_id(names: Sequence[str], num_classes: int) -> list[ClassMatch]:
    """The checkpoint's class with the same id; a new class where it has fewer.

    Where all ``names`` are different numbers that are ids of the checkpoint, those are the ids.
    """
    numbers = [int(name) if name.isdecimal() else -1 for name in names]
    by_number = len(set(numbers)) == len(names) and all(0 <= n < num_classes for n in numbers)
    ids = numbers if by_number else range(len(names))
    return [
        ClassMatch(name, class_id if class_id < num_classes else None, "id")
        for name, class_id in zip(names, ids, strict=True)
    ]


def nearest(name: str, others: Iterable[str], count: int = 3) -> list[str]:
    """The most similar of ``others``, whatever their case, accents and underscores."""
    keys = {other: name_keys(other) for other in others}
    by_key = {part: other for other, (_, *parts) in keys.items() for part in parts}
    by_key |= {whole: other for other, (whole, *_) in keys.items()}
    close = get_close_matches(name_keys(name)[0], by_key, n=count, cutoff=_NEAR)
    return list(dict.fromkeys(by_key[key] for key in close))


def quoted(names: Sequence[str], most: int = 8) -> str:
    """A list for people, cut after ``most`` names."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


class _Index:
    """The classes of a checkpoint by each way of naming them."""

    def __init__(
        self,
        known: Sequence[str] | None,
        num_classes: int,
        synonyms: Sequence[Sequence[str]] | None,
    ) -> None:
        names = [str(i) for i in range(num_classes)] if known is None else known
        self.by_name = _group((name, i) for i, name in enumerate(names))
        self.by_key = _group((_key(name), i) for i, name in enumerate(names))
        self.by_wordnet = _group(_wordnet_ids(known, num_classes))
        if _has_imagenet_classes(known, num_classes):
            # Two cranes and two maillots: torchvision tells them apart with a word after the name.
            for i, name in enumerate(names):
                if "," in name:
                    self.by_name[name.split(",")[0]].append(i)
        others = ((_key(text), i) for i, texts in enumerate(synonyms or ()) for text in texts)
        self.by_other_name = _group(dict.fromkeys(others))
        self.synonyms = [_synonyms(name) for name in names]
        self.by_synonym = _group((key, i) for i, keys in enumerate(self.synonyms) for key in keys)

    def find(self, name: str) -> ClassMatch:
        wordnet = _WORDNET_ID.match(name)
        ways = (
            ("name", self.by_name.get(name, [])),
            ("spelling", self.by_key.get(_key(name), [])),
            ("WordNet id", self.by_wordnet.get(wordnet[1], []) if wordnet else []),
            ("synonym", self.by_other_name.get(_key(name), [])),
            ("synonym", self._by_synonyms(_synonyms(name))),
        )
        for reason, found in ways:
            if len(found) == 1:
                return ClassMatch(name, found[0], reason)
            if found:
                return ClassMatch(name, candidates=tuple(sorted(found)))
        return ClassMatch(name)

    def _by_synonyms(self, keys: set[str]) -> list[int]:
        """Classes with just these synonyms; else those with all of them, or with none besides."""
        sharing = sorted({i for key in keys for i in self.by_synonym.get(key, [])})
        same = [i for i in sharing if keys == self.synonyms[i]]
        return same or [i for i in sharing if keys <= self.synonyms[i] or keys >= self.synonyms[i]]


def _group(pairs: Iterable[tuple[str, int]]) -> defaultdict[str, list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return groups


def _key(name: str) -> str:
    """The name as people may spell it: also 007 for 7."""
    return str(int(name)) if name.isdecimal() else name_keys(name)[0]


def _synonyms(name: str) -> set[str]:
    """The parts of a name between its commas; for a WordNet id ImageNet's name."""
    if name in _wordnet_classes() and (imagenet := imagenet_class_names()):
        name = imagenet[_wordnet_classes()[name]]
    whole, *parts = name_keys(name)
    return set(parts or [whole]) - {""}


def _wordnet_ids(known: Sequence[str] | None, num_classes: int) -> list[tuple[str, int]]:
    """WordNet ids of a checkpoint's classes: those in its names, or ImageNet's."""
    if _has_imagenet_classes(known, num_classes):
        return list(_wordnet_classes().items())
    ids = ((_WORDNET_ID.match(name), i) for i, name in enumerate(known or ()))
    return [(match[1], i) for match, i in ids if match]


def _has_imagenet_classes(known: Sequence[str] | None, num_classes: int) -> bool:
    if num_classes != IMAGENET_CLASSES:
        return False
    imagenet = imagenet_class_names()
    if known is None or imagenet is None:
        return known is None
    same = [bool(_synonyms(a) & _synonyms(b)) for a, b in zip(known, imagenet, strict=True)]
    return sum(same) >= _IMAGENET_SHARE * IMAGENET_CLASSES


@cache
def _wordnet_classes() -> dict[str, int]:
    """ImageNet's class of each of its 1,000 WordNet ids."""
    lines = _WORDNET_FILE.read_text(encoding="utf-8").splitlines()
    ids = " ".join(line for line in lines if not line.startswith("#")).split()
    return {wordnet_id: class_id for class_id, wordnet_id in enumerate(ids)}


def describe(matches: Sequence[ClassMatch], known: Sequence[str] | None) -> list[str]:
    """What a person should know of the matches, one line each; nothing if every name is the same.

    ``known`` are the names of the checkpoint's classes; None if it has none.
    """
    lines: list[str] = []
    found = [match for match in matches if match.class_id is not None]
    reasons = Counter(match.reason for match in found)
    if found and (len(found) < len(matches) or set(reasons) - {"name"}):
        ways = [
            f"{n} by {reason}{_examples(found, reason, known)}" for reason, n in reasons.items()
        ]
        start = f"{len(found)} of {len(matches)} classes are classes of the checkpoint"
        lines.append(f"{start}: {'; '.join(ways)}")
    if new := [match for match in matches if match.class_id is None]:
        lines.append(f"{len(new)} of {len(matches)} classes start anew: {unfound(new, known)}")
    owners: defaultdict[int | None, list[str]] = defaultdict(list)
    for match in found:
        owners[match.class_id].append(match.name)
    lines += [
        f"{quoted(names)} are the same class of the checkpoint, {_label(class_id, known)}"
        for class_id, names in owners.items()
        if len(names) > 1
    ]
    return lines


def unfound(matches: Sequence[ClassMatch], known: Sequence[str] | None) -> str:
    """The classes without a match, each with what it may be, and how to say so."""
    shown = [f"{match.name!r}{_guess(match, known)}" for match in matches[:_LISTED]]
    more = f" and {len(matches) - _LISTED} more" if len(matches) > _LISTED else ""
    pair = pairing(matches, known)
    return f"{', '.join(shown)}{more}{pair and f'. If two are the same: {pair}'}"


def pairing(matches: Sequence[ClassMatch], known: Sequence[str] | None) -> str:
    """The option that pairs the first class with a likely match; empty if none has one."""
    for match in matches[:COMPARED]:
        likely = [*match.candidates, *nearest(match.name, known or (), count=1)]
        if likely:
            return to_type(["--init-pairs", match.name, str(likely[0])])
    return ""


def _guess(match: ClassMatch, known: Sequence[str] | None) -> str:
    if match.candidates:
        labels = " or ".join(_label(i, known) for i in match.candidates[:3])
        return f" (could be {labels})"
    near = nearest(match.name, known or (), count=1)
    return f" (near: {near[0]!r})" if near else ""


def _examples(matches: Sequence[ClassMatch], reason: str, known: Sequence[str] | None) -> str:
    """Some pairs of names, where they are not the same."""
    pairs = [
        f"{match.name!r} = {_label(match.class_id, known)}"
        for match in matches
        if match.reason == reason and reason != "name"
    ]
    more = f" and {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
    return f" ({', '.join(pairs[:_LISTED])}{more})" if pairs else ""


def _label(class_id: int | None, known: Sequence[str] | None) -> str:
    return str(class_id) if known is None or class_id is None else f"{class_id} · {known[class_id]}"

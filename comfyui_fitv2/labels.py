"""From the class names that people type to class ids, or an error with the nearest names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from .typed_text import COMMA, DOT, SEMICOLON, plain_signs, trim

IMAGENET_CLASSES = 1000
SUGGESTIONS = 5
# torchvision tells these apart from 517 "crane" and 638 "maillot" with a word in the name. People
# know each pair under one name, so the bare word counts as a name of both, and typing it is
# reported as ambiguous instead of silently picking one class.
_IMAGENET_SYNONYMS = {134: "crane, bird", 639: "maillot, tank suit"}

_EVERY_CLASS = ("all", "*")
_QUOTES = ('""', "''", "“”", "„“", "‘’", "«»", "「」", "『』", "＂＂")
_NUMBER = re.compile(r"[-+]?(0x[\da-f]+|\d+(\.\d+)?)", re.IGNORECASE)


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
    """The entries of a list that people type, separated by semicolons or line ends of any script.

    Entries lose outer spaces, and empty ones are left out. Commas do not separate: names hold them.
    """
    return [entry for part in SEMICOLON.split(text) if (entry := trim(part))]


def parse_classes(text: str, class_names: Sequence[str] | None, num_classes: int) -> list[Label]:
    """The labels of "all" or "*", every class, or of a list as ``resolve_labels`` reads it.

    Raises ``LabelError`` as ``resolve_labels`` does, and for "all" where a class is called so.
    """
    typed = unicodedata.normalize("NFKC", trim(text)).lower()
    if typed not in _EVERY_CLASS:
        return resolve_labels(text, class_names, num_classes)
    everything = [Label(i, class_names[i] if class_names else None) for i in range(num_classes)]
    if called := [label for label in everything if _key(label.name or "") == typed]:
        other = _EVERY_CLASS[typed == "all"]
        raise LabelError(
            f'"{trim(text)}" could be every class or {_listing(called, "or")}. Type "{other}" for '
            "every class, or the class with its id."
        )
    return everything


def resolve_labels(text: str, class_names: Sequence[str] | None, num_classes: int) -> list[Label]:
    """The labels of a list such as "Finland; 16; 12 · Germany".

    An entry is a name, one of the synonyms that commas separate in a name, a class id, or "id ·
    name", as ``Label`` prints it. Case, accents and underscores do not matter. Semicolons and line
    ends separate entries, and commas do where the whole is no class. A name that holds a separator
    is read whole: what ``Label`` prints can always be typed again.

    Raises ``LabelError`` for an empty text, an unknown entry, and a name that several classes
    share.
    """
    if not split_list(text):
        raise LabelError(
            f"No class was given. Type a name, an id of 0 to {num_classes - 1}, or several with "
            "semicolons between them."
        )
    return _Classes(class_names, num_classes).read_list(text)


class _Classes:
    """The classes of a model by everything that they are called."""

    def __init__(self, names: Sequence[str] | None, count: int) -> None:
        self.names = names
        self.count = count
        self.exact: dict[str, set[int]] = {}
        self.whole: dict[str, set[int]] = {}
        self.synonyms: dict[str, set[int]] = {}
        for i, name in enumerate(names or ()):
            parts = COMMA.split(name)
            _add(self.exact, _exact_key(name), i)
            _add(self.whole, _key(name), i)
            if name in _IMAGENET_SYNONYMS.values():
                _add(self.exact, _exact_key(parts[0]), i)
                _add(self.whole, _key(parts[0]), i)
            for part in parts:
                _add(self.synonyms, _key(part), i)
        # Then an id would be another class' name: a number can mean only one of the two.
        self.numbered = bool(names) and all(_is_number(name) for name in names or ())
        self._longest = {
            separator: 1 + max((len(separator.findall(name)) for name in names or ()), default=0)
            for separator in (SEMICOLON, COMMA)
        }

    def label(self, class_id: int) -> Label:
        return Label(class_id, self.names[class_id] if self.names else None)

    def read_list(self, text: str) -> list[Label]:
        labels = []
        for entry in self._entries(text, SEMICOLON):
            try:
                labels.append(self._resolve(entry))
            except LabelError as error:
                parts = list(self._entries(entry, COMMA))
                if parts == [entry]:
                    raise
                labels += self._resolve_parts(parts, error)
        return labels

    def _resolve_parts(self, parts: Sequence[str], whole: LabelError) -> list[Label]:
        """The labels of entries between commas; raises ``whole`` where none of them is known."""
        labels, failure = [], None
        for part in parts:
            try:
                labels.append(self._resolve(part))
            except LabelError as error:
                failure = failure or error
        if failure is not None:
            raise failure if labels else whole
        return labels

    def _entries(self, text: str, separator: re.Pattern[str]) -> Iterator[str]:
        """The entries between separators; one that is a class, though it holds some, stays whole.

        What ``Label`` prints goes before names, and a longer name before a shorter one.
        """
        ends = [match.span() for match in separator.finditer(text)] + [(len(text), len(text))]
        start = first = 0
        while first < len(ends):
            last = self._last_part(text, start, ends[first : first + self._longest[separator]])
            end, next_start = ends[first + last]
            if entry := trim(text[start:end]):
                yield entry
            start, first = next_start, first + last + 1

    def _last_part(self, text: str, start: int, ends: Sequence[tuple[int, int]]) -> int:
        """How many separators after ``start`` belong to the class that begins there."""
        known: tuple[Callable[[str], object], ...] = (self._printed, self._called)
        for is_class in known:
            for last in reversed(range(len(ends))):
                entry = trim(text[start : ends[last][0]])
                if is_class(entry) or is_class(_unquoted(entry)):
                    return last
        return 0

    def _called(self, entry: str) -> set[int]:
        """The classes with this whole name: those with these accents, or else those alike."""
        return self.exact.get(_exact_key(entry)) or self.whole.get(_key(entry)) or set()

    def _printed(self, entry: str) -> Label | None:
        """The class of an entry "id · name", as ``Label`` prints it; else None."""
        match = _with_id(entry)
        if match is None or match[0] >= self.count:
            return None
        label = self.label(match[0])
        return label if label.name is not None and _key(label.name) == _key(match[1]) else None

    def _resolve(self, entry: str) -> Label:
        if printed := self._printed(entry):
            return printed
        number = _whole_number(entry)
        found = set(self._called(entry) or self.synonyms.get(_key(entry), ()))
        if number is not None and self.numbered:
            found = found or {
                i for i, n in enumerate(self.names or ()) if _whole_number(n) == number
            }
        elif number is not None and number < self.count:
            found.add(number)
        if len(found) == 1:
            return self.label(found.pop())
        if found:
            candidates = _listing([self.label(i) for i in sorted(found)], "or")
            raise LabelError(f'"{entry}" could be {candidates}. Type one of these in full.')
        if (unquoted := _unquoted(entry)) != entry:
            return self._resolve(unquoted)
        return self._with_id_or_error(entry)

    def _with_id_or_error(self, entry: str) -> Label:
        """The class of "id · synonym"; raises ``LabelError`` for what is none."""
        match = _with_id(entry)
        if match is not None and match[0] < self.count:
            label = self.label(match[0])
            if label.name is None or label.id in self.synonyms.get(_key(match[1]), ()):
                return label
            raise LabelError(
                f'"{entry}" does not fit this model, where {label.id} is "{label.name}".'
            )
        if self.names is None or (_NUMBER.fullmatch(plain_signs(entry)) and not self.numbered):
            unnamed = "" if self.names else " This checkpoint carries no class names."
            raise LabelError(f'"{entry}" is no class id: ids are 0 to {self.count - 1}.{unnamed}')
        raise LabelError(f'No class is called "{entry}". {self._hint(entry)}')

    def _hint(self, entry: str) -> str:
        names = self.names or ()
        if self.numbered and _whole_number(entry) is not None:
            return (
                "All classes of this model have numbers as names, so a number is a name and not an "
                f"id: {self.label(0)} (the class with the id 0) to {self.label(self.count - 1)}."
            )
        nearest = _nearest(_key(entry), [_key(name) for name in names])
        if not nearest:
            return f"Try {self.label(0)}, or an id up to {self.count - 1}."
        return f"The nearest are {_listing([self.label(i) for i in nearest], 'and')}."


def _add(classes: dict[str, set[int]], key: str, class_id: int) -> None:
    if key:
        classes.setdefault(key, set()).add(class_id)


def _with_id(entry: str) -> tuple[int, str] | None:
    """The number and the name of an entry "id · name"."""
    dot = DOT.search(entry)
    number = _whole_number(entry[: dot.start()]) if dot else None
    return None if dot is None or number is None else (number, entry[dot.end() :])


def _unquoted(entry: str) -> str:
    """An entry without the quotation marks around it, as error messages print it."""
    quoted = len(entry) > 2 and entry[0] + entry[-1] in _QUOTES
    return trim(entry[1:-1]) if quoted else entry


def _whole_number(text: str) -> int | None:
    """The number that a text is, in the digits of any script; None for signs, points and words."""
    text = trim(text)
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _is_number(name: str) -> bool:
    return _whole_number(name) is not None


def _nearest(key: str, keys: Sequence[str]) -> list[int]:
    """Ids of the most similar names: those that contain the text, then those spelt like it."""
    holding = sorted((i for i, k in enumerate(keys) if key in k), key=lambda i: len(keys[i]))
    alike = get_close_matches(key, keys, n=SUGGESTIONS, cutoff=0.5)
    ranked = holding + [i for match in alike for i, k in enumerate(keys) if k == match]
    return list(dict.fromkeys(ranked))[:SUGGESTIONS]


def _listing(labels: Sequence[Label], conjunction: str) -> str:
    quoted = [f'"{label}"' for label in labels]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {conjunction} {quoted[-1]}"


def _exact_key(name: str) -> str:
    """A name without what no script tells apart: case, width, underscores, extra spaces."""
    plain = unicodedata.normalize("NFKC", trim(name)).casefold()
    return " ".join(plain.replace("_", " ").split())


def _key(name: str) -> str:
    """A name without what people leave out: accents too."""
    decomposed = unicodedata.normalize("NFKD", _exact_key(name))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def name_keys(name: str) -> list[str]:
    """What a class name is compared by: the whole name first, then each synonym in it."""
    return list(dict.fromkeys([_key(name), *map(_key, COMMA.split(name))]))

"""The classes of a model by everything that people call them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from .label import Label, LabelError, listed
from .nearest_names import NearestNames
from .typed_text import COMMA, DOT, plain_signs, trim

# torchvision tells these apart from 517 "crane" and 638 "maillot" with a word in the name. People
# know each pair under one name, so the bare word counts as a name of both, and typing it is
# reported as ambiguous instead of silently picking one class.
IMAGENET_PAIRS = {134: "crane, bird", 639: "maillot, tank suit"}

_QUOTES = ('""', "''", "“”", "„“", "‘’", "«»", "「」", "『』", "＂＂")
_NUMBER = re.compile(r"[-+]?(0x[\da-f]+|\d+(\.\d+)?)", re.IGNORECASE)
_APOSTROPHES = str.maketrans(dict.fromkeys("’ʼ‘`´", "'"))
_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_])\s*[-‐‑–—]\s*(?=[^\W\d_])")
_ABBREVIATED = re.compile(r"(?<=[^\W\d_])\.")


class ClassIndex:
    """The classes of a model: looked up by name, synonym or id, and by what is spelt like them.

    ``synonyms`` has a list of texts for each class. A whole name goes before a synonym, and that
    before the parts of a name between commas, which may be synonyms or not.
    """

    def __init__(
        self,
        names: Sequence[str] | None,
        count: int,
        synonyms: Sequence[Sequence[str]] | None = None,
    ) -> None:
        self.names = names
        self.count = count
        self._exact: dict[str, set[int]] = {}
        self._whole: dict[str, set[int]] = {}
        self._synonyms: dict[str, set[int]] = {}
        self._parts: dict[str, set[int]] = {}
        for i, name in enumerate(names or ()):
            parts = COMMA.split(name)
            _add(self._exact, exact_key(name), i)
            _add(self._whole, name_key(name), i)
            if name in IMAGENET_PAIRS.values():
                _add(self._exact, exact_key(parts[0]), i)
                _add(self._whole, name_key(parts[0]), i)
            for part in parts:
                _add(self._parts, name_key(part), i)
        for i, texts in enumerate(synonyms or ()):
            for text in texts:
                _add(self._synonyms, name_key(text), i)
        # Then an id would be another class' name: a number can mean only one of the two.
        self.numbered = bool(names) and all(_whole_number(name) is not None for name in names or ())
        self._texts = [*(names or ()), *(text for texts in synonyms or () for text in texts)]
        self._most: dict[re.Pattern[str], int] = {}
        self._nearest: NearestNames | None = None

    def most(self, sign: re.Pattern[str]) -> int:
        """How often a name or a synonym holds this sign, at most."""
        if sign not in self._most:
            self._most[sign] = max((len(sign.findall(text)) for text in self._texts), default=0)
        return self._most[sign]

    def label(self, class_id: int) -> Label:
        return Label(class_id, self.names[class_id] if self.names else None)

    def printed(self, entry: str) -> Label | None:
        """The class of an entry "id · name", as ``Label`` prints it; else None."""
        match = _with_id(entry)
        if match is None or match[0] >= self.count:
            return None
        label = self.label(match[0])
        same = label.name is not None and name_key(label.name) == name_key(match[1])
        return label if same else None

    def named(self, entry: str) -> set[int]:
        """The classes with this whole name: those with these accents, or else those alike."""
        return self._exact.get(exact_key(entry)) or self._whole.get(name_key(entry)) or set()

    def called(self, entry: str) -> set[int]:
        """The classes with this whole name, or else with this synonym."""
        return self.named(entry) or self._synonyms.get(name_key(entry), set())

    def find(self, entry: str) -> Label:
        """The class of one entry, with or without quotation marks around it.

        Raises ``LabelError`` where no class is called so, or where several are.
        """
        while (label := self._find(entry)) is None:
            if (inner := unquoted(entry)) == entry:
                return self._with_id_or_error(entry)
            entry = inner
        return label

    def _find(self, entry: str) -> Label | None:
        """The class of an entry as it is typed; raises ``LabelError`` where it could be several."""
        if printed := self.printed(entry):
            return printed
        number = _whole_number(entry)
        found = set(self.called(entry) or self._parts.get(name_key(entry), ()))
        if number is not None and self.numbered:
            found = found or {
                i for i, n in enumerate(self.names or ()) if _whole_number(n) == number
            }
        elif number is not None and number < self.count:
            found.add(number)
        if len(found) == 1:
            return self.label(found.pop())
        if found:
            candidates = [self.label(i) for i in sorted(found)]
            raise LabelError(
                f'"{entry}" could be {listed(candidates, "or")}. Type one of these in full.',
                candidates,
            )
        return None

    def _with_id_or_error(self, entry: str) -> Label:
        """The class of "id · synonym"; raises ``LabelError`` for what is none."""
        match = _with_id(entry)
        if match is not None and match[0] < self.count:
            label, key = self.label(match[0]), name_key(match[1])
            others = self._parts.get(key, set()) | self._synonyms.get(key, set())
            if label.name is None or label.id in others:
                return label
            raise LabelError(
                f'"{entry}" does not fit this model, where {label.id} is "{label.name}".', [label]
            )
        if self.names is None or (_NUMBER.fullmatch(plain_signs(entry)) and not self.numbered):
            unnamed = "" if self.names else " This checkpoint carries no class names."
            raise LabelError(f'"{entry}" is no class id: ids are 0 to {self.count - 1}.{unnamed}')
        if self.numbered and _whole_number(entry) is not None:
            raise LabelError(
                f'No class is called "{entry}". All classes of this model have numbers as names, '
                f"so a number is a name and not an id: {self.label(0)} (the class with the id 0) "
                f"to {self.label(self.count - 1)}."
            )
        nearest = self.nearest(entry)
        raise LabelError(f'No class is called "{entry}". {self._hint(nearest)}', nearest)

    def nearest(self, entry: str) -> list[Label]:
        """The classes that may be meant by an entry that is none, the likeliest first."""
        if self._nearest is None:
            names = ((name_key(name), i) for i, name in enumerate(self.names or ()))
            others = ((key, i) for key, ids in self._synonyms.items() for i in ids)
            self._nearest = NearestNames(names, others)
        return [self.label(i) for i in self._nearest.find(name_key(entry))]

    def _hint(self, nearest: Sequence[Label]) -> str:
        if not nearest:
            return f"Try {self.label(0)}, or an id up to {self.count - 1}."
        verb = "is" if len(nearest) == 1 else "are"
        return f"The nearest {verb} {listed(nearest, 'and')}."


def _add(classes: dict[str, set[int]], key: str, class_id: int) -> None:
    if key:
        classes.setdefault(key, set()).add(class_id)


def _with_id(entry: str) -> tuple[int, str] | None:
    """The number and the name of an entry "id · name"."""
    dot = DOT.search(entry)
    number = _whole_number(entry[: dot.start()]) if dot else None
    return None if dot is None or number is None else (number, entry[dot.end() :])


def unquoted(entry: str) -> str:
    """An entry without the quotation marks around it, as error messages print it."""
    quoted = len(entry) > 2 and entry[0] + entry[-1] in _QUOTES
    return trim(entry[1:-1]) if quoted else entry


def _whole_number(text: str) -> int | None:
    """The number that a text is, in the digits of any script; None for signs, points and words."""
    text = trim(text)
    return int(text) if text.isdecimal() and len(text) < 10 else None


def exact_key(name: str) -> str:
    """A name without what no script tells apart: case, width, underscores, extra spaces."""
    plain = unicodedata.normalize("NFKC", trim(name)).casefold()
    return " ".join(plain.replace("_", " ").split())


def name_key(name: str) -> str:
    """A name without what people leave out: accents, hyphens, the points of abbreviations."""
    plain = exact_key(name).translate(_APOSTROPHES)
    plain = _ABBREVIATED.sub("", _BETWEEN_LETTERS.sub(" ", plain))
    decomposed = unicodedata.normalize("NFKD", plain)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def name_keys(name: str) -> list[str]:
    """What a class name is compared by: the whole name first, then each synonym in it."""
    return list(dict.fromkeys([name_key(name), *map(name_key, COMMA.split(name))]))

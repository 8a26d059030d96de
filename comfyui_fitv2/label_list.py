"""A list of classes and blends as people type it: cut into entries, each with its place."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .class_index import ClassIndex, unquoted
from .label import Blend, Entry, Label, LabelError
from .typed_text import COMMA, PLUS, SEMICOLON, TIMES, plain_signs, trim

_WEIGHTED = re.compile(rf"(?P<weight>.*?)(?:{TIMES.pattern})(?P<name>.+)", re.DOTALL)
_WEIGHT = re.compile(r"[-+]?(\d+[.,٫]?\d*|[.,٫]\d+)")
_NESTED = 8
"""So many pairs of quotation marks around a list are taken off; more are no mistake of typing."""
_BLEND = '"France + Italy" or "0.7*France + 0.3*Italy"'


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of the text, without outer spaces."""

    start: int
    end: int

    @classmethod
    def trimmed(cls, text: str, start: int, end: int) -> _Span:
        inner = trim(text[start:end])
        start = text.find(inner, start)
        return cls(start, start + len(inner))


_Group = list[_Span]
"""The parts of one entry: one, or those that plus signs join."""


class LabelList:
    """Reads lists of classes of one model."""

    def __init__(self, index: ClassIndex) -> None:
        self.index = index

    def read(self, text: str) -> list[Entry]:
        """The entries of ``text``; the parts of a blend that cannot be read are entries each."""
        return self._entries(text, _Span(0, len(text)))

    def _entries(self, text: str, span: _Span, nested: int = 0) -> list[Entry]:
        entries = []
        for group in self._groups(text, span, SEMICOLON):
            read = self._read(text, group)
            if any(entry.error for entry in read):
                whole = _Span(group[0].start, group[-1].end)
                read = self._read_otherwise(text, whole, nested) or read
            entries += read
        return entries

    def _read_otherwise(self, text: str, span: _Span, nested: int) -> list[Entry]:
        """An entry that is no class, without its quotation marks, or as a list with commas.

        Empty where it is neither.
        """
        entry = text[span.start : span.end]
        if nested < _NESTED and unquoted(entry) != entry:
            within = _Span.trimmed(text, span.start + 1, span.end - 1)
            inner = self._entries(text, within, nested + 1)
            return inner if any(entry.label for entry in inner) else []
        groups = list(self._groups(text, span, COMMA))
        if len(groups) < 2:
            return []
        entries = [entry for group in groups for entry in self._read(text, group)]
        return entries if any(entry.label for entry in entries) else []

    def _groups(self, text: str, span: _Span, separator: re.Pattern[str]) -> Iterator[_Group]:
        """The entries between separators; what is a class stays whole, though it holds some.

        What ``Label`` prints goes before names, and a longer name before a shorter one.
        """
        sign = re.compile(f"{separator.pattern}|{PLUS.pattern}")
        cuts = [match.span() for match in sign.finditer(text, span.start, span.end)]
        cuts.append((span.end, span.end))
        longest = 1 + self.index.most(sign)
        group: _Group = []
        start, first = span.start, 0
        while first < len(cuts):
            last = first + self._last_part(
                text, start, [end for end, _ in cuts[first : first + longest]]
            )
            end, next_start = cuts[last]
            group.append(_Span.trimmed(text, start, end))
            if not PLUS.fullmatch(text, end, next_start):
                if len(group) > 1 or group[0].start < group[0].end:
                    yield group
                group = []
            start, first = next_start, last + 1

    def _last_part(self, text: str, start: int, ends: list[int]) -> int:
        """How many signs after ``start`` belong to the class that begins there."""
        known: tuple[Callable[[str], object], ...] = (self.index.printed, self.index.called)
        for is_class in known:
            for last in reversed(range(len(ends))):
                entry = trim(text[start : ends[last]])
                if any(is_class(form) for form in _forms(entry)):
                    return last
        return 0

    def _read(self, text: str, group: _Group) -> list[Entry]:
        """One entry for a class or a blend; one per part where a part cannot be read."""
        parts = [self._read_part(text, span) for span in group]
        entries = [entry for entry, _ in parts]
        if any(entry.error for entry in entries):
            return entries
        start, end = group[0].start, group[-1].end
        weighted = [(e.label, w) for e, w in parts if isinstance(e.label, Label)]
        try:
            return [Entry(text[start:end], start, end, Blend.of(weighted))]
        except LabelError as error:
            return [Entry(text[start:end], start, end, error=str(error))]

    def _read_part(self, text: str, span: _Span) -> tuple[Entry, float]:
        """A class, and its weight: 1 where none is typed."""
        entry = text[span.start : span.end]
        if not entry:
            message = f'A class is missing beside "+". Write {_BLEND}.'
            return Entry(entry, span.start, span.end, error=message), 1.0
        whole = self._find(text, span)
        weighted = _WEIGHTED.fullmatch(entry)
        if whole.label or weighted is None:
            return whole, 1.0
        start = span.start + weighted.start("name")
        named = self._find(text, _Span.trimmed(text, start, span.end))
        weight = _weight(weighted["weight"])
        if weight is None:
            if named.error:
                return whole, 1.0
            message = (
                f'"{trim(weighted["weight"])}" in "{entry}" is no weight. Write a number: {_BLEND}.'
            )
            return Entry(entry, span.start, span.end, error=message), 1.0
        return named, weight

    def _find(self, text: str, span: _Span) -> Entry:
        entry = text[span.start : span.end]
        try:
            return Entry(entry, span.start, span.end, self.index.find(entry))
        except LabelError as error:
            return Entry(entry, span.start, span.end, error=str(error), nearest=error.nearest)


def _forms(entry: str) -> list[str]:
    """An entry as it is, without quotation marks, and without the weight before it."""
    forms = [entry, unquoted(entry)]
    weighted = _WEIGHTED.fullmatch(entry)
    if weighted and _weight(weighted["weight"]) is not None:
        forms.append(trim(weighted["name"]))
    return forms


def _weight(text: str) -> float | None:
    """The number that a weight is, with a decimal point or comma; None for anything else."""
    text = plain_signs(text)
    if not _WEIGHT.fullmatch(text):
        return None
    weight = float(text.replace(",", ".").replace("٫", "."))
    return weight if math.isfinite(weight) else None

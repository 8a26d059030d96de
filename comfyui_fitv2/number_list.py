"""Lists of numbers as people type them: "1, 5, 9", "1..8", "1, 1.5, .., 4"."""

from __future__ import annotations

import re
from fractions import Fraction

from .labels import split_list
from .typed_text import COMMA, plain_signs

MAX_NUMBERS = 1000
"""The longest list that is written out."""

_NUMBER = r"(-?\d{1,20}(?:\.\d{1,9})?)"
_ENTRY = re.compile(rf"{_NUMBER}?\s*(?:(\.\.+)\s*{_NUMBER}?)?")
_TOO_MANY = f"more than {MAX_NUMBERS} numbers. Write fewer."


def parse_numbers(
    what: str, text: str, least: float, most: float, *, whole: bool = True
) -> list[float]:
    """The different numbers of a list, in their order; ints if ``whole``.

    Commas, semicolons and line ends separate. "1..8" is 1 to 8, downwards if the second is smaller.
    An entry ".." keeps the distance of the two numbers before it, so that "1, 3, .., 9" is 1, 3, 5,
    7, 9. An empty text gives an empty list. Raises ``ValueError`` that begins with ``what`` for
    anything else, for a number outside of ``least`` to ``most``, and for more than ``MAX_NUMBERS``
    numbers.
    """

    def checked(number: str) -> Fraction:
        value = Fraction(number)
        if whole and value.denominator != 1:
            raise ValueError(f"{what}: {number} is no whole number.")
        if not least <= value <= most:
            raise ValueError(f"{what}: {number} is outside of {least} to {most}.")
        return value

    numbers: list[Fraction] = []
    dots_before = False
    for start, dots, end in _entries(what, text):
        if dots_before and dots:
            raise ValueError(f"{what}: {_DOTS}")
        if start and dots_before:
            numbers += _continued(what, numbers, checked(start))
        elif start:
            numbers.append(checked(start))
        dots_before = bool(dots) and not end
        if end:
            if not (start or numbers):
                raise ValueError(f"{what}: {_DOTS}")
            before = numbers[-1:] if start else numbers
            numbers += _continued(what, before, checked(end))
        elif dots and not numbers:
            raise ValueError(f"{what}: {_DOTS}")
    if dots_before:
        raise ValueError(f"{what}: {_DOTS}")
    values = dict.fromkeys(int(n) if n.denominator == 1 else float(n) for n in numbers)
    if len(values) > MAX_NUMBERS:
        raise ValueError(f"{what} holds {_TOO_MANY}")
    return list(values)


_DOTS = "'..' stands for the numbers between two others, as in 1..8 and in 1, 3, .., 9."


def _entries(what: str, text: str) -> list[tuple[str, str, str]]:
    """Each entry as (number, dots, number), of which some are empty."""
    entries = []
    for entry in split_list(COMMA.sub(";", text)):
        match = _ENTRY.fullmatch(plain_signs(entry))
        if match is None:
            raise ValueError(
                f"{what}: {entry!r} is no number. Write numbers with commas between them, and "
                "ranges as 1..8 or as 1, 3, .., 9."
            )
        entries.append(tuple(part or "" for part in match.groups()))
    return entries


def _continued(what: str, before: list[Fraction], end: Fraction) -> list[Fraction]:
    """The numbers after the last of those ``before`` up to ``end``, at the distance of its two."""
    start = before[-1]
    step = Fraction(1 if end >= start else -1) if len(before) == 1 else start - before[-2]
    written = f"{', '.join(map(_text, before[-2:]))}, .., {_text(end)}"
    if not step:
        raise ValueError(f"{what}: {written} never reaches {_text(end)}.")
    if (end - start) / step < 0:
        raise ValueError(f"{what}: {written} leads away from {_text(end)}.")
    if (end - start) / step > MAX_NUMBERS:
        raise ValueError(f"{what}: {written} is {_TOO_MANY}")
    return [start + step * i for i in range(1, int((end - start) / step) + 1)]


def _text(number: Fraction) -> str:
    return str(number) if number.denominator == 1 else f"{float(number):g}"

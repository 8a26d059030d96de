"""Class names as people write them: their order, and names that look the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator


def natural_order(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """A sort key by which numbers inside names count by value: class2 before class10."""
    pieces: list[str | tuple[int, str]] = []
    for i, piece in enumerate(re.split(r"([0-9]+)", name)):  # every second piece is a number
        digits = piece.lstrip("0")
        pieces.append((len(digits), digits) if i % 2 else piece)
    return pieces, name


def class_name(text: str) -> str:
    """The name of a class: without spaces around it, in composed Unicode, as keyboards write.

    macOS stores the names of files decomposed, and the two look the same.
    """
    return unicodedata.normalize("NFC", text).strip()


def look_alikes(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each group of names that differ in ways which are easily overlooked."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_appearance(name), []).append(name)
    for group in groups.values():
        if len(group) > 1:
            quoted = ", ".join(f'"{name}"' for name in group)
            yield (
                f"The classes {quoted} differ only in capitals, spaces, dots or forms of the same "
                "letters; give them one name, or names that differ."
            )


def _appearance(name: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split()).rstrip(" .")

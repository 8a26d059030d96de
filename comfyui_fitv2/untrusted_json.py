"""JSON from files that anybody may have made, and checks of the values in it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeGuard


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; bytes must be UTF-8.

    Raises ``ValueError`` for anything else, also for text that is nested too deeply, has numbers of
    too many digits, or names a key of an object twice.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None


def is_finite_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number, and one that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is a text that UTF-8 can hold; JSON can write half of a surrogate pair."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"its JSON has the key {twice!r} twice")
    return result

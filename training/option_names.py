"""Options as other trainers call them: taken where they mean the same, explained where not."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .command_line import OptionError


@dataclass(frozen=True, slots=True)
class OptionNames:
    """Names without leading hyphens, in ``kebab-case``."""

    same: Mapping[str, str]
    """Other names, and our own option that means the same; "option=value" for a flag."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For other names, values that are called otherwise here."""
    hints: Mapping[str, str] = field(default_factory=dict)
    """Other names of what works in another way here, and what to do instead."""


def own_names(words: Sequence[str] | None, names: OptionNames) -> list[str]:
    """The command line ``words``, by default this process's, with the options' own names.

    Raises ``OptionError`` with the hint for an option that has one.
    """
    own: list[str] = []
    values: Mapping[str, str] = {}
    for word in sys.argv[1:] if words is None else words:
        if not word.startswith("--"):
            own.append(values.get(word, word))
            values = {}
            continue
        option, equals, value = word.partition("=")
        name = option.removeprefix("--").replace("_", "-").lower()
        if name in names.hints:
            raise OptionError(f"{option}: {names.hints[name]}")
        values = names.values.get(name, {})
        if name in names.same:
            option = f"--{names.same[name]}"
        own.append(f"{option}{equals}{values.get(value, value)}")
    return own

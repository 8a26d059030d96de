"""What is worth knowing of a training set, as sentences for the console and the page."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from ..data.sources.listing import counted
from .check import Check

_UNBALANCED = 10
"""The largest class has this many times the images of the smallest: worth a word."""
_FEW_IMAGES = 10
_LINES = 8


def headline(check: Check) -> str:
    """Such as "1,234 images of 10 classes; 32 to 256 tokens each (median 240)"."""
    tokens = check.tokens[check.usable]
    classes = sum(used > 0 for _, used, _ in check.per_class())
    if not len(tokens):
        return f"{counted(len(check.files), 'file')}, none of which can be used"
    low, high = int(tokens.min()), int(tokens.max())
    each = (
        f"{high} tokens each"
        if low == high
        else (f"{low} to {high} tokens each (median {int(np.median(tokens))})")
    )
    return f"{counted(len(tokens), 'image')} of {counted(classes, 'class')}; {each}"


def notes(check: Check) -> list[str]:
    """Full sentences on what is unusual, what matters most first. Mistakes are ``problems``."""
    return [*check.listing_notes, *(note for part in _PARTS for note in part(check))]


def short_form(check: Check) -> str:
    """A few lines for the console; the page has everything."""
    lines = [f"{headline(check)}.", f"  Images per class: {_per_class(check)}."]
    said = notes(check)
    lines += [f"  {note}" for note in said[:_LINES]]
    if len(said) > _LINES:
        lines.append(f"  and {len(said) - _LINES} more; --check writes a page with all")
    return "\n".join(lines)


def _per_class(check: Check) -> str:
    """Such as "cat 40, dog 38", or the range where there are many classes."""
    counts = [(used, name) for name, used, _ in check.per_class() if used]
    if len(counts) <= _LINES:
        return ", ".join(f"{name} {used:,}" for used, name in counts) or "none"
    (few, smallest), (many, largest) = min(counts), max(counts)
    return f"{few:,} ({smallest}) to {many:,} ({largest})"


def by_reason(reasons: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """The files of each reason, the most frequent first; names in a reason do not count."""
    groups: dict[str, list[str]] = defaultdict(list)
    for file, reason in reasons.items():
        groups[re.sub(r"'[^']*'|<[^>]*>", "…", reason)].append(file)
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def shape(check: Check, row: int) -> str:
    """Such as "20,000 × 50 (400:1) → 1024 × 64 (16:1)"."""
    before, after = (
        f"{w:,} × {h:,} ({_ratio(w, h)})"
        for w, h in (check.sizes[row].tolist(), check.trained[row].tolist())
    )
    return f"{before} → {after}"


def _ratio(width: int, height: int) -> str:
    longer, shorter = max(width, height), max(min(width, height), 1)
    value = f"{longer / shorter:.3g}"
    return f"{value}:1" if width >= height else f"1:{value}"


def _unusable(check: Check) -> Iterator[str]:
    if check.unusable:
        yield (
            f"{counted(len(check.unusable), 'file')} cannot be used: "
            f"{_most_frequent(check.unusable)}."
        )


def _small(check: Check) -> Iterator[str]:
    if count := int(check.small.sum()):
        tokens = check.tokens[check.small]
        low, high = int(tokens.min()), int(tokens.max())
        become = f"{low} to {high}" if low < high else f"{low}"
        largest = "one token" if high == 1 else f"{become} tokens"
        yield (
            f"{_share(count, check)} small, and {'become' if count > 1 else 'becomes'} {largest} "
            f"instead of about {check.budget}. Add --enlarge to enlarge small images."
        )


def _contradictory(check: Check) -> Iterator[str]:
    if groups := check.contradictory():
        first = " = ".join(check.files[row] for row in groups[0][:3])
        yield (
            f"{counted(len(groups), 'image')} {'is' if len(groups) == 1 else 'are'} in several "
            f"classes, which contradict each other: {first}."
        )


def _duplicates(check: Check) -> Iterator[str]:
    if extra := sum(len(group) - 1 for group in check.duplicates):
        first = " = ".join(check.files[row] for row in check.duplicates[0][:3])
        yield (
            f"{counted(extra, 'file')} {'repeats' if extra == 1 else 'repeat'} another byte for "
            f"byte, and {'is' if extra == 1 else 'are'} trained on more often: {first}."
        )


def _tiny(check: Check) -> Iterator[str]:
    if len(rows := np.flatnonzero(check.tiny)):
        yield (
            f"{counted(len(rows), 'image')} with a side below 16 pixels "
            f"{'is' if len(rows) == 1 else 'are'} enlarged to a whole token: "
            f"{check.files[rows[0]]} {shape(check, rows[0])}."
        )


def _bent(check: Check) -> Iterator[str]:
    if rows := check.bent():
        yield (
            f"{counted(len(rows), 'image')} {'changes its' if len(rows) == 1 else 'change their'} "
            f"shape to fit into whole tokens: {check.files[rows[0]]} {shape(check, rows[0])}."
        )


def _imbalance(check: Check) -> Iterator[str]:
    counts = [(used, name) for name, used, _ in check.per_class() if used]
    if len(counts) < 2:
        return
    (few, smallest), (many, largest) = min(counts), max(counts)
    if many >= _UNBALANCED * few:
        yield (
            f"The classes are uneven: {largest} has {counted(many, 'image')}, {smallest} "
            f"{few:,}, {many // few:,} times fewer."
        )
    if scarce := sum(used < _FEW_IMAGES for used, _ in counts):
        yield f"{counted(scarce, 'class')} with fewer than {_FEW_IMAGES} images."


def _cropped(check: Check) -> Iterator[str]:
    if count := int(check.cropped.sum()):
        wide = check.sizes[check.cropped]
        lost = int((wide.max(axis=1) > 2 * wide.min(axis=1)).sum())
        more = (
            f"; {lost:,} of them {'loses' if lost == 1 else 'lose'} more than half" if lost else ""
        )
        yield f"{_share(count, check)} encoded as the middle square too{more}."


def _animated(check: Check) -> Iterator[str]:
    if check.animated:
        yield (
            f"{counted(len(check.animated), 'file')} with several frames or pages, of which the "
            f"first is used: {check.animated[0]}."
        )


_PARTS = (
    _unusable,
    _small,
    _contradictory,
    _duplicates,
    _tiny,
    _bent,
    _imbalance,
    _cropped,
    _animated,
)


def _share(count: int, check: Check) -> str:
    total = int(check.usable.sum())
    if count == total:
        return f"All {total:,} images are"
    return f"{count:,} of {total:,} images {'is' if count == 1 else 'are'}"


def _most_frequent(reasons: Mapping[str, str], most: int = 2) -> str:
    groups = by_reason(reasons)
    said = [f"{files[0]}{_others(files)}: {reason}" for reason, files in groups[:most]]
    if len(groups) > most:
        said.append(f"{len(groups) - most} other reasons")
    return "; ".join(said)


def _others(files: Iterable[str]) -> str:
    count = len(list(files)) - 1
    return f" and {count:,} more" if count else ""

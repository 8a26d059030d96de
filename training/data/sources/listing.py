"""What a source of images answers: the images, what is left out and why, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

NAMED = 3
"""Number of examples that are named in place of all."""
_SHOWN = 10


class SourceError(ValueError):
    """Images that cannot be listed; the message says where, what was found, and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


@dataclass(slots=True)
class Listing:
    """Images in a fixed order, the same on every machine. A file is listed once."""

    class_names: list[str]
    files: list[str] = field(default_factory=list)
    class_ids: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes per file, by which a replaced image is noticed; -1 where unknown."""
    modified: list[int] = field(default_factory=list)
    """When each file was changed last, in nanoseconds; -1 where unknown."""
    folders: list[str] = field(default_factory=list)
    """The folders that were read, where their times of change tell whether files came or went."""
    left_out: dict[str, str] = field(default_factory=dict)
    """The reason for each file or folder that is not in the listing. Many files of one folder and
    one reason share a line, such as "cat/*.txt"."""
    fingerprint: str = ""
    """What identifies the contents of a folder that ``datasets`` saved."""
    problems: list[str] = field(default_factory=list)
    """What is surely a mistake, each a full sentence with its remedy."""
    notes: list[str] = field(default_factory=list)
    """What was decided for the user and is worth knowing, each a full sentence."""

    def add(self, file: str, class_id: int, size: int, modified: int) -> None:
        self.files.append(file)
        self.class_ids.append(class_id)
        self.sizes.append(size)
        self.modified.append(modified)

    def report(self, what: str) -> Iterator[str]:
        """Lines for a user: the notes, and what is left out under the title ``what``."""
        yield from self.notes
        yield from listed(what, self.left_out, _SHOWN)

    def stop_at_problems(self) -> None:
        """Raises ``ValueError`` with all problems in one line, if there are any."""
        if self.problems:
            advice = "" if not self.files else " Add --ignore-problems to continue anyway."
            raise ValueError(" ".join(self.problems) + advice)


class LeftOut:
    """Collects files and folders that are not used.

    Many files of one kind in one folder become one line.
    """

    def __init__(self) -> None:
        self._files: dict[tuple[str, str, str], list[str]] = {}
        self._folders: dict[str, str] = {}

    def add_folder(self, folder: str, reason: str) -> None:
        self._folders[printable(folder)] = reason

    def add(self, file: str, reason: str) -> None:
        """``file`` has "/" between its folders."""
        folder, slash, name = printable(file).rpartition("/")
        stem, dot, suffix = name.rpartition(".")
        suffix = f".{suffix.lower()}" if dot and stem else ""
        self._files.setdefault((folder + slash, suffix, reason), []).append(name)

    def reasons(self) -> dict[str, str]:
        """By file, in order of name."""
        reasons = dict(self._folders)
        for (folder, suffix, reason), names in self._files.items():
            if len(names) <= NAMED:
                reasons |= {folder + name: reason for name in names}
            else:
                line = f"{folder}*{suffix}"
                before = f"{reasons[line]}; " if line in reasons else ""
                reasons[line] = f"{before}{len(names):,} files: {reason}"
        return dict(sorted(reasons.items()))


def evenly(items: Sequence[T], count: int) -> list[T]:
    """``count`` of ``items``, evenly spread; all of them where there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def some(names: Sequence[str]) -> str:
    """The first few of several names, and that there are more."""
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def counted(number: int, noun: str) -> str:
    """Such as "1 class" or "12 classes"."""
    plural = noun if number == 1 else f"{noun}{'e' * noun.endswith('s')}s"
    return f"{number:,} {plural}"


def listed(what: str, reasons: Mapping[str, str], most: int) -> Iterator[str]:
    """Lines with the number of files that are ``what``, and the first ``most`` of them.

    ``reasons`` are by file; nothing without any.
    """
    if reasons:
        yield f"{len(reasons):,} {what}:"
        yield from (f"  {file}: {reason}" for file, reason in list(reasons.items())[:most])
        if len(reasons) > most:
            yield f"  and {len(reasons) - most:,} more"


def printable(name: str) -> str:
    """The name, with bytes that are not text written as escapes."""
    return name.encode("utf-8", errors="backslashreplace").decode()

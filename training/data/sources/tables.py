"""A folder of images, and a table with the file and the label of each."""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..formats import HEAD_BYTES, content_reason, suffix_reason
from .class_names import class_name, look_alikes, natural_order
from .listing import LeftOut, Listing, SourceError, counted, some
from .table_text import file_and_label, read_table
from .walk import FileState, kind_of_file, suffix_of

_SMALL_FILE = 200
_PLAIN = re.compile(r"(?!\.\.?(/|$))[^/\\:]+(/(?!\.\.?(/|$))[^/\\:]+)*")
"""A relative path without detours."""


@dataclass(frozen=True, slots=True)
class ImageTable:
    """A folder, and a table with the file and the label of each image in it.

    A label is a name or a whole number. The table is JSONL, JSON or text with separators; see
    ``table_text``.
    """

    root: Path
    metadata: Path

    def listing(self) -> Listing:
        """Raises ``SourceError`` with the line that cannot be used."""
        found = _Found(self.root, self.metadata)
        for line, file, label in self._rows():
            found.add(line, file, class_name(label))
        names = sorted({name for name, _ in found.images.values()}, key=natural_order)
        ids = {name: i for i, name in enumerate(names)}
        listing = Listing(names)
        for file, (name, state) in sorted(found.images.items()):
            listing.add(file, ids[name], *state)
        listing.left_out = found.left_out.reasons()
        listing.problems += look_alikes(names)
        listing.problems += found.problems()
        listing.notes += found.notes()
        return listing

    def _rows(self) -> Iterator[tuple[int, str, str]]:
        line = 0
        for line, row in read_table(self.metadata):
            values = file_and_label(row)
            if values is None:
                found = json.dumps(row, ensure_ascii=False)[:200]
                raise SourceError(
                    self.metadata, f"line {line}: expected a file and a label, found {found}."
                )
            yield line, *values
        if not line:
            raise SourceError(self.metadata, "no images in it.")

    def source(self, file: str) -> Path:
        return self.root / file


@dataclass
class _Found:
    """The images that the rows of a table lead to."""

    root: Path
    metadata: Path
    images: dict[str, tuple[str, FileState]] = field(default_factory=dict)
    """The name of the class, and the state, by file."""
    left_out: LeftOut = field(default_factory=LeftOut)
    _missing: list[str] = field(default_factory=list)
    _repeated: list[str] = field(default_factory=list)
    _contradictory: list[str] = field(default_factory=list)
    _rewritten: list[str] = field(default_factory=list)
    _unusable: list[str] = field(default_factory=list)
    _lines: dict[str, int] = field(default_factory=dict)
    _file_by_inode: dict[tuple[int, int], str] = field(default_factory=dict)

    def add(self, line: int, written: str, label: str) -> None:
        resolved = self._resolve(written)
        if resolved is None:
            self._missing.append(written)
            self.left_out.add(written, self._why_missing(written))
            return
        file, status = resolved
        if file != written:
            self._rewritten.append(f"{written} as {file}")
        if reason := self._reason(file, status):
            self._unusable.append(file)
            self.left_out.add(file, reason)
            return
        file = self._listed_as(file, status)
        if file not in self.images:
            self.images[file], self._lines[file] = (label, FileState.of(status)), line
        elif self.images[file][0] == label:
            self._repeated.append(file)
        else:
            self._contradictory.append(f"{file} (lines {self._lines[file]} and {line})")

    def problems(self) -> Iterator[str]:
        total = len(self.images) + len(self._missing) + len(self._unusable)
        if self._missing:
            yield (
                f"{self.metadata}: {len(self._missing):,} of its {counted(total, 'image')} not "
                f"found below {self.root}: {some(self._missing)}. Name the folder that the table's "
                "paths begin in."
            )
        if self._contradictory:
            yield (
                f"{self.metadata}: {counted(len(self._contradictory), 'image')} with more than one "
                f"label: {some(self._contradictory)}. The first one counts if you ignore this."
            )
        if self._unusable and not self.images:
            first, reason = next(iter(self.left_out.reasons().items()))
            yield f"{self.metadata}: none of its images can be used. {first}: {reason}."

    def notes(self) -> Iterator[str]:
        if self._repeated:
            rows = counted(len(self._repeated), "repeated row")
            yield f"{self.metadata}: {rows}, used once: {some(self._repeated)}."
        if self._rewritten:
            paths = counted(len(self._rewritten), "path")
            yield f"{self.metadata}: {paths} read in another spelling: {some(self._rewritten)}."

    def _resolve(self, written: str) -> tuple[str, os.stat_result] | None:
        """The file that a path in the table means, below the root, and its state."""
        for file in self._spellings(written):
            if status := self._status(file):
                return self._name(file), status
        file = next(filter(None, map(self._similar.get, self._keys(written))), None)
        if file is not None and (status := self._status(file)):
            return file, status
        return None

    def _status(self, file: str) -> os.stat_result | None:
        try:
            # Faster than Path, for tables of many rows.
            return os.stat(os.path.join(self._root, file))  # noqa: PTH116, PTH118
        except (OSError, ValueError):  # no such file, or no path at all
            return None

    def _spellings(self, written: str) -> Iterator[str]:
        yield written
        forward = written.replace("\\", "/")
        if forward != written:
            yield forward
        parts = forward.split("/")
        # The path may begin above the root, also as it was named on another machine.
        for i, part in enumerate(parts[:-1]):
            if part.casefold() == self._root_name:
                yield "/".join(parts[i + 1 :])
        if self._from_table is not None:
            yield f"{self._from_table}/{forward}"

    @cached_property
    def _root(self) -> str:
        return str(self.root)

    @cached_property
    def _root_name(self) -> str:
        return self.root.resolve().name.casefold()

    @cached_property
    def _from_table(self) -> str | None:
        """From the root to the folder of the table."""
        try:
            return Path(os.path.relpath(self.metadata.parent, self.root)).as_posix()
        except ValueError:  # on another drive of Windows
            return None

    def _name(self, file: str) -> str:
        """As the set names it: relative where it is below the root, with "/"."""
        if _PLAIN.fullmatch(file):
            return file
        for root in (self.root.absolute(), self.root.resolve()):
            path = Path(os.path.normpath(root / file))
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        return Path(os.path.normpath(file)).as_posix()

    @cached_property
    def _similar(self) -> dict[str, str | None]:
        """The files below the root by what spelling leaves open; None where several share it."""
        files: dict[str, str | None] = {}
        for parent, _, names in os.walk(self.root):
            for name in names:
                file = Path(os.path.relpath(parent, self.root), name).as_posix()
                key = _folded(file)
                without_suffix = key.rpartition(".")[0]
                for k in (key, f"{without_suffix}.*"):
                    files[k] = None if k in files else file
        return files

    def _keys(self, written: str) -> Iterator[str]:
        for spelling in self._spellings(written):
            key = _folded(Path(os.path.normpath(spelling)).as_posix())
            yield key
            yield f"{key}.*"  # tables of competitions name images without their suffix

    def _why_missing(self, written: str) -> str:
        if "://" in written:
            return "an address, not a file; download it"
        return "a broken link" if (self.root / written).is_symlink() else "no such file"

    def _reason(self, file: str, status: os.stat_result) -> str | None:
        """Why a file cannot be used, where that is known before it is decoded."""
        if not stat.S_ISREG(status.st_mode):
            return f"{kind_of_file(status.st_mode)}, not a file"
        reason = suffix_reason(suffix_of(file))
        if reason:
            return reason
        if status.st_size <= _SMALL_FILE:
            with (self.root / file).open("rb") as stream:
                return content_reason(stream.read(HEAD_BYTES))
        return None

    def _listed_as(self, file: str, status: os.stat_result) -> str:
        """The name by which the same file is listed already, by way of a link or in capitals."""
        inode = status.st_dev, status.st_ino
        other = self._file_by_inode.setdefault(inode, file) if status.st_ino else file
        if other != file and (self.root / other).resolve() == (self.root / file).resolve():
            return other
        return file


def _folded(file: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", file).casefold())

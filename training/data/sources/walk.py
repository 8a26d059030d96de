"""All images below a folder: links followed once, other programs' folders skipped.

Folders are read by several threads, because on a network each file's state takes a while to come.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..formats import (
    HEAD_BYTES,
    NO_IMAGE,
    NOT_MEANT_AS_IMAGES,
    content_reason,
    format_of,
    suffix_reason,
)
from .listing import LeftOut, counted, printable

# fmt: off
_OTHER_PROGRAMS = frozenset([
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle",
    "@sharebin", "@synoresource", "@tmp", "__macosx", "__pycache__", "captureone", "found.000",
    "lost+found", "lost.dir", "recycler", "system volume information",
])
# fmt: on
"""Trash, thumbnails and indexes of network disks, operating systems and photo programs."""
_OTHER_PROGRAMS_SUFFIXES = (".lrdata", ".cocatalogdb")
_PHOTO_LIBRARIES = (".photoslibrary", ".photolibrary", ".migratedphotolibrary", ".aplibrary")
_ORIGINALS = frozenset(["originals", "masters"])
_THUMBNAILS = frozenset(["thumbnails", "thumbs", "_thumbnails", "_thumbs", "thumbnail"])
_SYSTEM_FILES = frozenset(["desktop.ini", "ehthumbs.db", "ehthumbs_vista.db", "thumbs.db"])
_OTHER_PROGRAMS_REASON = "thumbnails, trash or an index of another program"

_SMALL_FILE = 200
"""Bytes up to which a file is opened to see whether it is an image at all."""
_JUNCTION = 0xA0000003
"""``IO_REPARSE_TAG_MOUNT_POINT``: how Windows marks a folder that leads to another one."""
_READERS = 16

_Entry = tuple[str, bool, os.stat_result | OSError]
"""What a folder holds: a name, whether it is a link, and the state of what it leads to."""


class FileState(NamedTuple):
    """By which a file that was replaced is noticed."""

    bytes: int
    modified: int
    """When it was changed last, in nanoseconds."""

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        return cls(status.st_size, status.st_mtime_ns)


class ImageWalk:
    """The images below ``root``, found on construction."""

    def __init__(self, root: Path) -> None:
        self.images: dict[str, FileState] = {}
        """By file, which is named by its path below the root, with "/"."""
        self.left_out = LeftOut()
        self.folders: set[str] = set()
        """Names of the folders in the root, without those that are skipped."""
        self.unusable: Counter[str] = Counter()
        """By folder in the root, how many files that were meant as images cannot be used; "" is the
        root itself."""
        self.unusable_reasons: dict[str, str] = {}
        """By folder in the root, the reason for one of them."""
        self._root = str(root)
        self._real_root = os.path.realpath(root)
        self._real_folders: dict[str, str] = {}
        """The folders that were visited: their real paths, and their names below the root."""
        self._folder_links: list[str] = []
        self._file_links: list[tuple[str, FileState]] = []
        with ThreadPoolExecutor(_READERS) as self._readers:
            self._visit("", self._real_root)
            self._follow_folder_links()
        self._follow_file_links()

    @property
    def real_folders(self) -> list[str]:
        """The real paths of all folders that were read."""
        return list(self._real_folders)

    def _visit(self, folder: str, real: str) -> None:
        """Everything in a folder and the folders in it; links are put aside."""
        level = [(folder, real)]
        while level:
            new: list[tuple[str, str]] = []
            for folder, real in level:
                if real in self._real_folders:
                    self.left_out.add_folder(folder, self._read_elsewhere(real))
                else:
                    self._real_folders[real] = folder
                    new.append((folder, real))
            level = []
            paths = [self._path(folder) for folder, _ in new]
            for (folder, real), found in zip(new, self._readers.map(_read, paths), strict=True):
                if isinstance(found, OSError):
                    self.left_out.add_folder(folder or ".", found.strerror or "cannot be read")
                    continue
                inner = list(self._take(folder, found))
                level += [(_below(folder, name), _joined(real, name)) for name in inner]

    def _take(self, folder: str, entries: list[_Entry]) -> Iterator[str]:
        """Sort out what a folder holds; the names of the folders to visit are yielded."""
        hidden = 0
        inner: list[str] = []
        has_images = False
        for entry in entries:
            name, is_link, status = entry
            file = _below(folder, name)
            if isinstance(status, OSError):
                if not name.startswith("."):
                    self._unusable(file, _broken(Path(self._path(file)), status))
                continue
            mode = status.st_mode
            if stat.S_ISDIR(mode):
                if _is_skipped(name, folder):
                    self._skip(file)
                elif is_link:
                    self._folder_links.append(file)
                else:
                    inner.append(name)
            elif name.startswith("."):
                hidden += suffix_reason(suffix_of(name)) == "" and not name.startswith("._")
            elif name.lower() in _SYSTEM_FILES:
                continue
            elif not stat.S_ISREG(mode):
                self._unusable(file, f"{kind_of_file(mode)}, not a file")
            elif is_link:
                self._file_links.append((file, FileState.of(status)))
            else:
                has_images |= self._take_file(file, FileState.of(status))
        if hidden:
            self.left_out.add_folder(_below(folder, ".*"), f"hidden: {counted(hidden, 'file')}")
        for name in inner:
            if has_images and folder and name.lower() in _THUMBNAILS:
                self.left_out.add_folder(_below(folder, name), "thumbnails of the images beside it")
                continue
            if not folder:
                self.folders.add(name)
            yield name

    def _skip(self, folder: str) -> None:
        """Report a folder that is not looked into; a hidden one if it holds an image."""
        if not folder.rpartition("/")[2].startswith("."):
            self.left_out.add_folder(folder, _OTHER_PROGRAMS_REASON)
            return
        with suppress(OSError), os.scandir(self._path(folder)) as entries:
            if any(suffix_reason(suffix_of(entry.name)) == "" for entry in entries):
                self.left_out.add_folder(folder, "a hidden folder")

    def _take_file(self, file: str, state: FileState) -> bool:
        reason = self._file_reason(file, state.bytes)
        if not reason:
            self.images[file] = state
        elif reason in NOT_MEANT_AS_IMAGES:
            self.left_out.add(file, reason)
        else:
            self._unusable(file, reason)
        return not reason

    def _file_reason(self, file: str, size: int) -> str:
        """Why a regular file cannot be used; "" where it can."""
        reason = suffix_reason(suffix_of(file))
        if reason:
            return reason
        if printable(file) != file:
            return "its name is not Unicode; rename it"
        if reason is None or size <= _SMALL_FILE:
            try:
                with Path(self._root, file).open("rb") as stream:
                    head = stream.read(HEAD_BYTES)
            except OSError as error:
                return error.strerror or "cannot be read"
            if reason is None and format_of(head) is None:
                return NO_IMAGE
            return content_reason(head) or ""
        return ""

    def _follow_folder_links(self) -> None:
        while self._folder_links:
            links, self._folder_links = sorted(self._folder_links), []
            for link in links:
                real = os.path.realpath(self._path(link))
                if real in self._real_folders:
                    self.left_out.add_folder(link, self._read_elsewhere(real))
                elif _holds(real, self._real_root):
                    self.left_out.add_folder(link, "a link to a folder around the images")
                else:
                    if "/" not in link:
                        self.folders.add(link)
                    self._visit(link, real)

    def _follow_file_links(self) -> None:
        if not self._file_links:
            return
        real_by_folder = {folder: real for real, folder in self._real_folders.items()}
        file_by_real = {}
        for file in self.images:
            folder, _, name = file.rpartition("/")
            file_by_real[_joined(real_by_folder[folder], name)] = file
        for file, state in sorted(self._file_links):
            real = os.path.realpath(self._path(file))
            if other := file_by_real.get(real):
                self._unusable(file, f"a link to an image that is in the list as {other}")
            elif self._take_file(file, state):
                file_by_real[real] = file

    def _path(self, file: str) -> str:
        return _joined(self._root, file) if file else self._root

    def _read_elsewhere(self, real: str) -> str:
        return f"a link to a folder that is read as {self._real_folders[real] or 'the whole'}"

    def _unusable(self, file: str, reason: str) -> None:
        self.left_out.add(file, reason)
        top = file.partition("/")[0] if "/" in file else ""
        self.unusable[top] += 1
        self.unusable_reasons.setdefault(top, reason)


def _read(folder: str) -> list[_Entry] | OSError:
    """All of a folder, with the state of each file; the error where it cannot be read."""

    def state(entry: os.DirEntry[str]) -> _Entry:
        try:
            return entry.name, _is_link(entry), entry.stat()
        except OSError as error:
            return entry.name, entry.is_symlink(), error

    try:
        with os.scandir(folder) as entries:
            return [state(entry) for entry in entries]
    except OSError as error:
        return error


def _is_skipped(name: str, parent: str) -> bool:
    """Whether a folder is another program's, or hidden."""
    lower = name.lower()
    return (
        name.startswith(".")
        or lower in _OTHER_PROGRAMS
        or lower.endswith(_OTHER_PROGRAMS_SUFFIXES)
        or (parent.lower().endswith(_PHOTO_LIBRARIES) and lower not in _ORIGINALS)
    )


def _is_link(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        return True
    # Only Windows has this; there it costs nothing, because a folder's entry holds it.
    return os.name == "nt" and (
        getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0) == _JUNCTION
    )


def _broken(path: Path, error: OSError) -> str:
    if not path.is_symlink():
        return error.strerror or "cannot be read"
    if isinstance(error, FileNotFoundError):
        return f"a broken link: {printable(str(path.readlink()))} does not exist"
    return f"a link that cannot be followed: {error.strerror}"


def kind_of_file(mode: int) -> str:
    """What ``st_mode`` says of something that is not a regular file."""
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a folder" if stat.S_ISDIR(mode) else "a device"


def _holds(outer: str, inner: str) -> bool:
    return inner.startswith(outer.rstrip(os.sep) + os.sep)


def _joined(folder: str, name: str) -> str:
    """Faster than ``Path`` where there are many files."""
    return f"{folder.rstrip(os.sep)}{os.sep}{name}"


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def suffix_of(file: str) -> str:
    """The suffix in lower case, as ``Path`` has it; faster where there are many files."""
    stem, dot, suffix = file.rpartition("/")[2].rpartition(".")
    return dot + suffix.lower() if stem else ""

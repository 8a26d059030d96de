"""Files that the processes of a machine share: each is made once, and the oldest are dropped.

A file of the cache never changes: another content has another name. It is made beside its place and
renamed, so nobody sees a half of it. Whoever needs a file that another process is making waits for
it. Where the files together exceed the limit, those that were used least recently are removed; a
program that has one open keeps it.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from ..whole_files import TEMPORARY_SUFFIX, write_whole

T = TypeVar("T")

FOLDER_VARIABLE = "FITV2_CACHE"
GIGABYTES_VARIABLE = "FITV2_CACHE_GB"
_KEPT_FREE = 0.1
"""Share of the disk's free space that a cache without a limit leaves."""
_LOCKS = 256
"""Number of lock files, of which a name has one."""
_ABANDONED_SECONDS = 3600
"""After this a file that nobody has continued to write was left by a process that was killed."""
_ATTEMPTS = 10


@dataclass(frozen=True)
class NodeCache:
    """A cache in ``folder``, which is made when it is needed. Copies for other processes share it.

    ``most_bytes`` is the limit; None takes what the disk has room for, less a tenth. While files
    are made, they may exceed it by one for each process that makes some.
    """

    folder: Path
    most_bytes: int | None = None

    @classmethod
    def chosen(cls, folder: str = "", gigabytes: float = 0.0) -> NodeCache:
        """The cache that the options, or else the environment, name.

        Raises ``ValueError`` where ``FITV2_CACHE_GB`` is no number of gigabytes, or ``gigabytes``
        none that is finite.
        """
        if gigabytes:
            name, value = "--cache.gigabytes", str(gigabytes)
        else:
            name, value = GIGABYTES_VARIABLE, os.environ.get(GIGABYTES_VARIABLE, "0")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not 0 <= limit < math.inf:
            raise ValueError(
                f"{name} is {value!r}; it must be a number of gigabytes, such as 200, or 0 for "
                "what the disk has room for."
            )
        return cls(cache_folder(folder) / "files", round(limit * 1e9) or None)

    def room(self) -> int:
        """Bytes that the files of the cache may have together."""
        if self.most_bytes is not None:
            return self.most_bytes
        self.folder.mkdir(parents=True, exist_ok=True)
        used = sum(size for _, size, _ in self._files())
        return round((1 - _KEPT_FREE) * (shutil.disk_usage(self.folder).free + used))

    def open(
        self, name: str, size: int, make: Callable[[Path], None], opened: Callable[[Path], T]
    ) -> T:
        """What ``opened`` makes of the file ``name``, which ``make`` writes where it is not there.

        ``size`` is the number of bytes that it will have; others are removed to make room for them.
        """
        path = self.folder / name
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):  # removed at this moment
                touch(path)
                return opened(path)
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock(name):
                if not path.exists():
                    self._make_room(size)
                    with write_whole(path) as temporary:
                        make(temporary)
        return opened(path)

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _lock(self, name: str) -> FileLock:
        # The system releases it when the process ends in any way.
        return FileLock(self.folder / f".lock-{zlib.crc32(name.encode()) % _LOCKS}")

    def _make_room(self, needed: int) -> None:
        room = self.room() - needed
        files = sorted(self._files())
        used = sum(size for _, size, _ in files)
        for used_last, size, path in files:
            is_unfinished = path.name.endswith(TEMPORARY_SUFFIX)
            if is_unfinished and used_last > time.time() - _ABANDONED_SECONDS:
                continue
            if used <= room and not is_unfinished:
                return
            with suppress(OSError):  # Windows keeps what another program has open
                path.unlink()
                used -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """When each file was used last, its bytes, and where it is."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(".lock-"):
                    continue
                with suppress(FileNotFoundError):  # removed by another process
                    status = entry.stat()
                    yield status.st_mtime, status.st_size, Path(entry.path)


def touch(path: Path) -> None:
    """Note that a file of the cache is used. Raises ``FileNotFoundError`` where it was removed."""
    try:
        os.utime(path)
    except PermissionError:  # of another user: what counts is that it is there
        path.stat()


def cache_folder(named: str = "") -> Path:
    """The folder of this machine for what is at addresses: the option, the environment, or one in
    the user's home."""
    if chosen := named or os.environ.get(FOLDER_VARIABLE):
        return Path(chosen).expanduser()
    try:
        return Path.home() / ".cache" / "fitv2"
    except RuntimeError:  # a container's user without a home
        return Path(tempfile.gettempdir(), "fitv2")

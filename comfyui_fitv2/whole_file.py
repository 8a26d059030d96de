"""Atomic writing: a file gets its name when it is complete and on the disk, or never."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"
"""Ending of the names of unfinished files, which a killed process leaves behind."""
_RENAME_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds to wait after each denied rename."""


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; after the block it takes the final name.

    Before that the system has written the file to the disk, so that a crash at any moment leaves
    either the old file or the complete new one. An error in the block, or one that the disk
    reports, is raised and leaves ``path`` as it was and no temporary file. The folder must exist.
    The file has the permissions of the one that it replaces, or else those of any new file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        mode = _mode_of(path if path.exists() else temporary)
        yield temporary
        if mode != stat.S_IMODE(temporary.stat().st_mode):  # safetensors writes for the owner only
            with suppress(PermissionError):  # file systems without permissions
                temporary.chmod(mode)
        sync_to_disk(temporary)
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _mode_of(path: Path) -> int:
    """The permissions of a file, or those that a new one gets: the umask cannot be read safely."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        path.touch(exist_ok=False)
        try:
            return stat.S_IMODE(path.stat().st_mode)
        finally:
            path.unlink()


def rename(source: Path, target: Path) -> None:
    """Rename a file or a folder; an existing file ``target`` is replaced.

    A denied rename is tried again for three seconds: on Windows a virus scanner or an indexer may
    hold a new file open for a moment. Raises ``PermissionError`` after that.
    """
    for pause in _RENAME_PAUSES:
        try:
            source.replace(target)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    source.replace(target)


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Raises what fsync does."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # what file systems without fsync say
            raise
    finally:
        os.close(descriptor)

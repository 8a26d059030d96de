"""Atomic writing: a file appears under its name when it is complete and on the disk, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"
"""Ending of the names of unfinished files, which a killed process leaves behind."""


@contextmanager
def write_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; after the block it takes the final name.

    Before that the system has written the file to the disk, so that a crash at any moment leaves
    either the old file or the complete new one. An error in the block, or one that the disk reports,
    is raised and leaves ``path`` as it was and no temporary file. The folder must exist.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        sync_to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; raises the ``OSError`` of fsync."""
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

"""Fast loading of memory-mapped files."""

from __future__ import annotations

import os
from pathlib import Path

_PIECE = 2**20
_PROBES = 64


def read_ahead(path: Path) -> None:
    """Read a file sequentially, unless the system has it in memory already.

    Faulting in a memory-mapped file page by page is about half as fast as reading it sequentially.
    """
    with path.open("rb", buffering=0) as file:
        if _is_in_memory(file.fileno(), os.fstat(file.fileno()).st_size):
            return
        piece = bytearray(_PIECE)
        while file.readinto(piece):
            pass


def _is_in_memory(descriptor: int, size: int) -> bool:
    """Whether bytes all over the file can be read without waiting; False where the system cannot tell."""
    if not hasattr(os, "RWF_NOWAIT"):  # only Linux has it
        return False
    byte = bytearray(1)
    try:
        return all(
            os.preadv(descriptor, [byte], offset, os.RWF_NOWAIT)
            for offset in range(0, size, size // _PROBES + 1)
        )
    except OSError:  # not in memory, or a file system that does not tell
        return False

"""Bringing a file that is mapped into memory there fast."""

from __future__ import annotations

import os
from pathlib import Path

_PIECE = 2**20
_PROBES = 64


def read_ahead(path: Path) -> None:
    """Read a file through, in order, unless the system has it in memory already.

    Pages of a mapped file that are fetched as they are touched come in small portions: half as fast from a quick disk.
    """
    with path.open("rb", buffering=0) as file:
        if _is_in_memory(file.fileno(), os.fstat(file.fileno()).st_size):
            return
        piece = bytearray(_PIECE)
        while file.readinto(piece):
            pass


def _is_in_memory(descriptor: int, size: int) -> bool:
    """Whether bytes all over the file can be had without waiting; False where the system cannot tell."""
    if not hasattr(os, "RWF_NOWAIT"):  # Linux has it
        return False
    byte = bytearray(1)
    try:
        return all(
            os.preadv(descriptor, [byte], offset, os.RWF_NOWAIT)
            for offset in range(0, size, size // _PROBES + 1)
        )
    except OSError:  # not there yet, or a file system that does not say
        return False

"""The files of a latent set, be it a folder of this machine or at an address."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from .node_cache import NodeCache, touch
from .remote import Remote, RemoteError
from .shards import FileFacts, file_facts

T = TypeVar("T")

_DOWNLOADS = 8
"""Files that a process fetches at the same time."""


class SetFiles:
    """Files of the folder at ``place``; those of a ``Remote`` by way of a cache of this machine."""

    def __init__(self, place: Path | Remote, cache: NodeCache | None = None) -> None:
        self.place, self.cache = place, cache or NodeCache.chosen()

    @property
    def is_remote(self) -> bool:
        return isinstance(self.place, Remote)

    def read(self, name: str) -> bytes:
        """The content of a small file. Raises ``FileNotFoundError`` where there is none."""
        if isinstance(self.place, Remote):
            return self.place.read(name)
        return (self.place / name).read_bytes()

    def open(self, name: str, facts: FileFacts | None, opened: Callable[[Path], T]) -> T:
        """What ``opened`` makes of a file on this machine, which is fetched where need be.

        ``facts`` are needed at an address, and are verified when the file arrives. Raises
        ``RemoteError`` where it cannot be fetched.
        """
        if not isinstance(self.place, Remote):
            return opened(self.place / name)
        assert facts is not None
        remote = self.place

        def fetch(path: Path) -> None:
            try:
                remote.download(name, path, lambda got: _damage(got, facts))
            except FileNotFoundError:
                raise RemoteError(
                    f"{remote}/{name}: no such file, though the set lists it. Upload the set again."
                ) from None

        return self.cache.open(self._cached_name(name, facts), facts.bytes, fetch, opened)

    def fetch(self, files: Iterable[tuple[str, FileFacts | None]]) -> None:
        """Fetch those files that are not on this machine, some at the same time."""
        missing = [
            (name, facts)
            for name, facts in files
            if facts and self.is_remote and not self.cache.has(self._cached_name(name, facts))
        ]
        if len(missing) < 2:  # then it is fetched when it is opened
            return
        with ThreadPoolExecutor(_DOWNLOADS) as downloads:
            list(downloads.map(lambda file: self.open(file[0], file[1], _nothing), missing))

    def keep(self, path: Path) -> bool:
        """Note that a file is in use; whether it is still there."""
        try:
            if self.is_remote:
                touch(path)
        except FileNotFoundError:
            return False
        return True

    def _cached_name(self, name: str, facts: FileFacts) -> str:
        return f"{facts.checksum}{Path(name).suffix}"


def _nothing(path: Path) -> None:
    """Fetching is all."""


def _damage(path: Path, facts: FileFacts) -> str:
    found = file_facts(path)
    if found == facts:
        return ""
    if found.bytes != facts.bytes:
        return f"{found.bytes} bytes have arrived, not {facts.bytes}"
    return f"its checksum is {found.checksum}, not {facts.checksum}, as the set lists it"

"""Where ``prepare`` makes a latent set: a folder, or an address to which finished files are sent.

For an address there is a folder of this machine too. A shard is written there, sent with the file
beside it, which goes last, and removed. So a shard whose rows are at the address is there as a
whole, with the checksum in them, and is not sent again.
"""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..data.latent_set import INFO_FILE
from ..data.node_cache import cache_folder
from ..data.remote import Remote, RemoteError, address_of, local_path
from ..data.set_files import SetFiles
from ..data.shards import (
    EncodedExample,
    ShardRows,
    copy_shard,
    read_rows,
    rows_name,
    shard_name,
    shard_path,
    write_shard,
)
from ..folder_lock import LOCK_FILE
from ..whole_files import TEMPORARY_SUFFIX, OutputFolderError, write_json, write_whole

PLAN_FILE = "plan.json"
_SHARD, _ROWS = (re.compile(rf"{kind}-(\d+)\.arrow") for kind in ("shard", "rows"))
_LISTING = re.compile(r"pictures(-\d+)?\.arrow")
_AHEAD = 2
"""Shards that wait on this machine until they are sent, while the next one is made."""
_TRANSFERS = 8
"""Small files that are fetched at the same time."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0
"""Seconds between two looks at what other processes have done."""
_NOTICE_SECONDS = 60


class SetFolder:
    """The set that is made at ``output``; ``cache`` is the folder of this machine for addresses."""

    def __init__(self, output: Path, cache: str = "") -> None:
        address = address_of(output)
        self.remote = Remote(address) if address else None
        self.folder = _own_folder(address, cache) if address else local_path(output)
        """The folder of this machine."""
        self._there: dict[str, int] = {}
        """Bytes by name of what was at the address at the last look."""
        self._uploads: list[Future[None]] = []
        self._sender: ThreadPoolExecutor | None = None
        self._stopped = False

    def __str__(self) -> str:
        return str(self.remote or self.folder)

    @property
    def files(self) -> SetFiles:
        return SetFiles(self.remote or self.folder)

    def at(self, name: str) -> str:
        """Where a file of the set is, for messages."""
        return f"{self.remote}/{name}" if self.remote else str(self.folder / name)

    def pull(self) -> None:
        """Bring what is at the address up to date here, without shards and their rows."""
        if not self.remote:
            return
        self.look()
        before, plan = self.folder / PLAN_FILE, None
        if PLAN_FILE in self._there:
            plan = self.remote.read(PLAN_FILE)
        elif self._there:
            raise OutputFolderError(
                f"{self} is not empty and contains no latent set. Name another --output."
            )
        if self.folder.is_dir() and not (before.is_file() and before.read_bytes() == plan):
            self._clear()  # shards of another plan
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / INFO_FILE).unlink(missing_ok=True)
        for name in self._there:
            if name in (PLAN_FILE, INFO_FILE) or _LISTING.fullmatch(name):
                self._download(name)

    def look(self) -> None:
        """See what is at the address now; one listing."""
        if self.remote:
            self._there = self.remote.names()

    def has_shard(self, number: int) -> bool:
        """Whether a shard is there as a whole; at an address, at the last look."""
        if self.remote:
            return rows_name(number) in self._there and shard_name(number) in self._there
        return shard_path(self.folder, number).is_file()

    def shard_numbers(self) -> set[int]:
        """The numbers of all shards, also of earlier states of the set."""
        matches = (_SHARD.fullmatch(name) for name in self._names())
        return {int(match[1]) for match in matches if match}

    def rows(self, number: int) -> ShardRows:
        """A shard without its latents. Raises ``LatentSetError`` where there is none."""
        if self.remote and not (self.folder / rows_name(number)).is_file():
            self._download(rows_name(number))
        return read_rows(self.folder, number)

    def pull_rows(self, numbers: Iterable[int]) -> None:
        """Fetch the rows of these shards, many at the same time."""
        names = [rows_name(number) for number in numbers]
        missing = [name for name in names if not (self.folder / name).is_file()]
        if self.remote and missing:
            with ThreadPoolExecutor(_TRANSFERS) as transfers:
                list(transfers.map(self._download, missing))

    def pull_shard(self, number: int) -> None:
        """Fetch a shard whose latents are needed here."""
        if self.remote and not shard_path(self.folder, number).is_file():
            self._download(shard_name(number))

    def write_shard(
        self, number: int, examples: Sequence[EncodedExample], failures: Mapping[str, str]
    ) -> None:
        """As ``shards.write_shard``; sends it meanwhile."""
        write_shard(self.folder, number, examples, failures)
        self._send_later(number)

    def copy_shard(self, number: int, source: int, images: Mapping[str, tuple[str, int]]) -> None:
        """As ``shards.copy_shard``; sends it meanwhile."""
        self.pull_shard(source)
        copy_shard(self.folder, number, source, images)
        self._send_later(number)

    def send_finished(self, numbers: Iterable[int]) -> None:
        """Send those of these shards that an earlier run finished here, and could not send."""
        if self.remote:
            for number in numbers:
                if shard_path(self.folder, number).is_file() and not self.has_shard(number):
                    self._send_later(number)
            self.wait_until_sent()

    def wait_until_sent(self) -> None:
        """Raises ``RemoteError`` where a shard could not be sent."""
        while self._uploads:
            self._uploads.pop(0).result()

    def stop_sending(self) -> None:
        """Send no more shards; what is finished stays here, and a later run sends it."""
        self._stopped = True

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a temporary path; what is written there becomes a file of the set."""
        with write_whole(self.folder / name) as temporary:
            yield temporary
        self.send(name)

    def write_json(self, name: str, content: Any) -> None:
        write_json(self.folder / name, content)
        self.send(name)

    def send(self, name: str) -> None:
        """Send a file of the folder, where the set is at an address."""
        if self.remote:
            path = self.folder / name
            self.remote.upload(path, name)
            self._there[name] = path.stat().st_size

    def wait_for(self, numbers: Sequence[int], notice: Callable[[list[int]], None]) -> None:
        """Wait until other processes have made these shards.

        Looks ever less often. ``notice`` is called with those that are missing, about once a
        minute.
        """
        pause, noticed = _FIRST_PAUSE, time.monotonic()
        missing = [number for number in numbers if not self.has_shard(number)]
        while missing:
            time.sleep(pause * random.uniform(0.5, 1.0))
            self.look()
            left = [number for number in missing if not self.has_shard(number)]
            pause = _FIRST_PAUSE if len(left) < len(missing) else min(2 * pause, _LONGEST_PAUSE)
            missing = left
            if missing and time.monotonic() - noticed > _NOTICE_SECONDS:
                noticed = time.monotonic()
                notice(missing)

    def require_sent(self, numbers: Iterable[int]) -> None:
        """Raises ``RemoteError`` where a shard at the address is not the one that was sent."""
        for number in numbers if self.remote else ():
            found, sent = self._there.get(shard_name(number)), self.rows(number).shard.bytes
            if found != sent:
                raise RemoteError(
                    f"{self.at(shard_name(number))}: it has {found} bytes, not the {sent} that "
                    f"were sent. Remove {rows_name(number)} there, and run the same command again."
                )

    def remove_listings_but(self, name: str) -> None:
        """Remove the lists of images of earlier plans."""
        stale = [other for other in self._names() if _LISTING.fullmatch(other) and other != name]
        if self.remote:
            self.remote.remove(stale)
        for other in stale:
            (self.folder / other).unlink(missing_ok=True)

    def remove_all_but(self, numbers: Iterable[int], index: str) -> None:
        """Remove shards of an earlier state of the set, other indexes, and what a killed process
        was writing. Windows keeps files that another process has mapped, until the next time."""
        current = {index, *(name(n) for n in numbers for name in (shard_name, rows_name))}

        def is_stale(name: str) -> bool:
            is_part = _SHARD.fullmatch(name) or _ROWS.fullmatch(name) or name.startswith("index-")
            return bool(is_part) and name not in current

        if self.remote:
            self.remote.remove(name for name in self._there if is_stale(name))
        for path in list(self.folder.iterdir()):
            unfinished = path.name.startswith(".") and path.name.endswith(TEMPORARY_SUFFIX)
            sent = self.remote and _SHARD.fullmatch(path.name)
            if is_stale(path.name) or unfinished or sent:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _send_later(self, number: int) -> None:
        if not self.remote:
            return
        self._sender = self._sender or ThreadPoolExecutor(1)
        self._uploads.append(self._sender.submit(self._send_shard, number))
        while len(self._uploads) > _AHEAD or (self._uploads and self._uploads[0].done()):
            self._uploads.pop(0).result()

    def _send_shard(self, number: int) -> None:
        if self._stopped:
            return  # the error of the one before is raised
        try:
            read_rows(self.folder, number)  # made again where the process was killed before them
            self.send(shard_name(number))
            self.send(rows_name(number))
        except BaseException:
            self._stopped = True
            raise
        shard_path(self.folder, number).unlink(missing_ok=True)

    def _names(self) -> set[str]:
        here = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        return here | self._there.keys()

    def _download(self, name: str) -> None:
        assert self.remote is not None
        with write_whole(self.folder / name) as temporary:
            self.remote.download(name, temporary)

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name != LOCK_FILE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _own_folder(address: str, cache: str) -> Path:
    name = re.sub(r"[^\w.-]", "_", address.rpartition("/")[2])
    digest = hashlib.blake2b(address.encode(), digest_size=6).hexdigest()
    return cache_folder(cache) / "sending" / f"{name}-{digest}"

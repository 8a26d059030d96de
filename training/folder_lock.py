"""A folder that one command writes to at a time, on this machine and on others that share it.

The lock is a file with who holds it, created exclusively and touched every few seconds. A process
of this machine that has ended loses its lock at once. Of another machine nothing is known but the
file, so its lock counts as abandoned when nobody has touched it for a while. No clocks are
compared, because those of two machines differ.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from threading import Event, Thread

import psutil

LOCK_FILE = ".lock"
TOUCH_SECONDS = 5
ABANDONED_SECONDS = 30
"""Several touches, and longer than a network file system caches the time of a file."""


class FolderLockedError(ValueError):
    """Another process writes to the folder; the message says which, and since when."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    namespace: int
    """Tells containers with one host name apart, whose processes do not see each other."""
    pid: int
    started: float
    """When the process started, in seconds since 1970: ids of processes are used again."""
    since: str

    @classmethod
    def this_process(cls) -> Holder:
        host, namespace = _machine()
        pid, since = os.getpid(), datetime.now().astimezone()
        started = psutil.Process(pid).create_time()
        return cls(host, namespace, pid, started, since.isoformat(" ", "minutes"))

    @property
    def is_here(self) -> bool:
        return (self.host, self.namespace) == _machine()

    def is_alive(self) -> bool | None:
        """Whether the process, of this machine, still runs.

        None where another process may have got its id, or the clock was set.
        """
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return True if abs(process.create_time() - self.started) < 1 else None
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return None


@contextmanager
def folder_lock(folder: Path, does: str) -> Iterator[None]:
    """Hold ``folder``, which is created, until the end of the block.

    ``does`` says in messages what the holder does, such as "trains here". Raises
    ``FolderLockedError`` where another process holds the folder, after at most
    ``ABANDONED_SECONDS``, and ``OSError`` where the folder cannot be written to. A folder that is
    still empty at the end is removed if it was created here.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK_FILE
    try:
        own = _take(file, does)
        done = Event()
        Thread(target=_keep_touching, args=(file, own, done), daemon=True).start()
        try:
            yield
        finally:
            done.set()
            with suppress(OSError):
                if _read(file) == own:  # unless a machine that slept has lost it meanwhile
                    file.unlink()
    finally:
        with suppress(OSError):  # not empty
            for path in created:
                path.rmdir()


def _take(file: Path, does: str) -> str:
    """Create the lock, and give its content."""
    content = json.dumps(asdict(Holder.this_process()))
    while not _create(file, content):
        found = _read(file)
        if found is None:  # released meanwhile
            continue
        holder = _holder(found)
        if _is_held(file, holder):
            who = f"process {holder.pid} on {holder.host}" if holder else "another process"
            since = f" since {holder.since}" if holder else ""
            raise FolderLockedError(
                f"{who} {does}{since}: {file.parent}. Wait until it has ended, stop it, or name "
                f"another --output. If it no longer runs, remove {file}."
            )
        _remove_abandoned(file, found)
    return content


def _create(file: Path, content: str) -> bool:
    """Create the lock unless it exists, with its content from the first moment where possible."""
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.write_text(content, encoding="utf-8")
    try:
        os.link(new, file)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            with file.open("x", encoding="utf-8") as opened:
                opened.write(content)
        except FileExistsError:
            return False
    finally:
        new.unlink()
    return True


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _holder(content: str) -> Holder | None:
    try:
        return Holder(**json.loads(content))
    except (ValueError, TypeError):
        return None  # half written, or of another version


def _is_held(file: Path, holder: Holder | None) -> bool:
    alive = holder.is_alive() if holder and holder.is_here else None
    if alive is not None:
        return alive
    before, until = _touched(file), time.monotonic() + ABANDONED_SECONDS
    while time.monotonic() < until:
        now = _touched(file)
        if now != before:
            return now is not None
        time.sleep(0.2)
    return False


def _touched(file: Path) -> int | None:
    """When the file was touched last; None without it."""
    try:
        with file.open() as opened:  # opening it makes network file systems ask the server
            return os.fstat(opened.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _remove_abandoned(file: Path, content: str) -> None:
    """Remove the lock, unless it is no longer the one that was found abandoned."""
    aside = file.with_name(f"{file.name}.{os.getpid()}.old")
    with suppress(FileNotFoundError):
        file.rename(aside)
        if _read(aside) != content:  # another process was quicker, and holds it now
            with suppress(OSError):
                os.link(aside, file)
        aside.unlink()


def _keep_touching(file: Path, own: str, done: Event) -> None:
    while not done.wait(TOUCH_SECONDS):
        with suppress(OSError):
            if _read(file) == own:
                os.utime(file)


def _machine() -> tuple[str, int]:
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return socket.gethostname(), namespace

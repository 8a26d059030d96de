"""Folders at an address such as s3://bucket/latents, by ``fsspec``.

A lost connection is tried again, with pauses that grow. A file is there as a whole or not at all,
because object stores show a file only when all of it has arrived.
"""

from __future__ import annotations

import errno
import os
import random
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any, TypeVar
from urllib.parse import unquote
from urllib.request import url2pathname

T = TypeVar("T")

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_LOCAL = ("file", "local")
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait after each attempt that failed, give or take a half."""
_PACKAGES = {
    "abfs": "adlfs",
    "az": "adlfs",
    "gcs": "gcsfs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
    "s3": "s3fs",
    "s3a": "s3fs",
}
"""Packages by the kind of address that they open."""


class RemoteError(OSError):
    """An address that cannot be used; the message names it, says why, and what to do."""


def address_of(place: str | os.PathLike[str]) -> str | None:
    """The address that is named, None for a path. A ``Path`` has only one slash after s3:."""
    text = place.as_posix() if isinstance(place, PurePath) else os.fspath(place)
    match = _ADDRESS.match(text)
    if match is None or match[1].lower() in _LOCAL:
        return None
    return f"{match[1].lower()}://{text[match.end() :].rstrip('/')}"


def local_path(place: str | os.PathLike[str]) -> Path:
    """The path that is named, be it plain or as file://."""
    text = place.as_posix() if isinstance(place, PurePath) else os.fspath(place)
    match = _ADDRESS.match(text)
    if match and match[1].lower() in _LOCAL:
        return Path(url2pathname(unquote("/" + text[match.end() :])))
    return Path(place)


class Remote:
    """A folder at an ``address``, which need not exist. Copies for other processes connect anew.

    Everything raises ``RemoteError`` where the address cannot be reached or used.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._opened: tuple[int, Any, str] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Remote, (self.address,)

    def __str__(self) -> str:
        return self.address

    def names(self) -> dict[str, int]:
        """Bytes by the name of each file in the folder; one listing."""

        def listing(system: Any, root: str) -> dict[str, int]:
            system.invalidate_cache()
            found = system.ls(root, detail=True)
            files = (entry for entry in found if entry["type"] == "file")
            return {entry["name"].rpartition("/")[2]: int(entry["size"]) for entry in files}

        try:
            return self._attempt(listing, "")
        except FileNotFoundError:
            return {}

    def read(self, name: str) -> bytes:
        """The content of a file. Raises ``FileNotFoundError`` where there is none."""
        return self._attempt(lambda system, path: system.cat_file(path), name)

    def download(self, name: str, path: Path, check: Callable[[Path], str] | None = None) -> None:
        """Write a file to ``path``. Raises ``FileNotFoundError`` where there is none.

        ``check`` says what is wrong with what has arrived, "" where nothing is. It is fetched again
        then, as after a lost connection.
        """

        def get(system: Any, remote_path: str) -> None:
            system.get_file(remote_path, str(path))
            if check and (wrong := check(path)):
                raise OSError(wrong)

        self._attempt(get, name)

    def upload(self, path: Path, name: str) -> None:
        """Send the file at ``path``; one of this name is replaced."""
        size = path.stat().st_size

        def put(system: Any, remote_path: str) -> None:
            system.put_file(str(path), remote_path)
            system.invalidate_cache()
            if (arrived := system.size(remote_path)) != size:
                raise OSError(f"{arrived} of {size} bytes arrived")

        try:
            self._attempt(put, name)
        except FileNotFoundError as error:
            raise RemoteError(
                f"{self.address}: no such place to write to ({error}). Create the bucket or the "
                "repository first."
            ) from None

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that do not exist are passed over."""
        for name in names:
            try:
                self._attempt(lambda system, path: system.rm_file(path), name)
            except FileNotFoundError:
                continue

    def _attempt(self, action: Callable[[Any, str], T], name: str) -> T:
        at = f"{self.address}/{name}" if name else self.address
        started = time.monotonic()
        for pause in (*_PAUSES, None):
            try:
                system, root = self._system()
                return action(system, f"{root}/{name}" if name else root)
            except (RemoteError, FileNotFoundError):
                raise
            except Exception as error:  # each kind of address has errors of its own
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                if remedy := _final_remedy(error):
                    raise RemoteError(f"{at}: {reason}. {remedy}") from None
                if pause is None:
                    seconds = time.monotonic() - started
                    raise RemoteError(
                        f"{at}: no success in {len(_PAUSES) + 1} attempts over {seconds:.0f} "
                        f"seconds; the last one said: {reason}. Check the network and the address, "
                        "then run the same command again."
                    ) from None
            time.sleep(pause * random.uniform(0.5, 1.5))
        raise AssertionError("the last attempt returns or raises")

    def _system(self) -> tuple[Any, str]:
        """The file system, and the folder in it. Connections do not outlive a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), *_connect(self.address))
        return self._opened[1:]


def _connect(address: str) -> tuple[Any, str]:
    kind = address.partition(":")[0].lower()
    try:
        import fsspec
    except ImportError:
        raise RemoteError(
            f"{address}: addresses need the package fsspec. Install it: pip install fsspec"
            f"{' s3fs' if kind == 's3' else ''}"
        ) from None
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(kind)
        remedy = f"Install it: pip install {package}" if package else str(error)
        what = f"the package {package}" if package else "a package that is not installed"
        raise RemoteError(f"{address}: {kind}:// needs {what}. {remedy}") from None
    except ValueError as error:
        if "rotocol" not in str(error):
            raise
        raise RemoteError(
            f"{address}: fsspec knows no addresses of the kind {kind}://. Known are s3://, gs://, "
            "hf:// and others."
        ) from None


def _final_remedy(error: Exception) -> str:
    """What to do about an error that another attempt cannot change; "" for any other error."""
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return "Check the credentials of this machine, and what they may do there."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EROFS):
        return "Make room there."
    if isinstance(error, NotImplementedError):
        return "This kind of address cannot do that. Use another one."
    return ""

"""Files that are complete or absent, and folders that belong to one command's settings."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

TEMPORARY_SUFFIX = ".tmp"


class OutputFolderError(ValueError):
    """An output folder that holds something else; the message says what differs and what to do."""


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    with write_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """A temporary path to write, which becomes ``path`` when the file is complete and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        yield temporary
        sync_to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Have the system write a file, or the names in a folder, before anything after it."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot
            raise
    finally:
        os.close(descriptor)


@contextmanager
def temporary_file(path: Path) -> Iterator[BinaryIO]:
    with write_whole(path) as temporary, temporary.open("wb") as file:
        yield file


def file_digest(*paths: Path) -> str:
    """16 hex digits of the SHA-256 of the files' contents, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


def check_output_folder(
    output: Path,
    settings: Mapping[str, Any],
    *,
    name: str,
    holds: str,
    compare: Callable[[Mapping[str, Any], Mapping[str, Any]], Iterable[str]] | None = None,
) -> None:
    """Let ``output`` belong to ``settings``, written to its file ``name`` on first use.

    ``holds`` says what the folder is for, such as "generated images"; ``compare`` names what
    differs between the settings before and now, by default ``differences``. Raises
    ``OutputFolderError`` where the folder belongs to other settings, holds other files, or is a file.
    """
    file = output / name
    if output.exists() and not output.is_dir():
        raise OutputFolderError(f"{output} is a file. Name a folder.")
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if changed := list((compare or differences)(before, settings)):
            raise OutputFolderError(
                f"{output} holds {holds} made with different settings "
                f"({'; '.join(changed)}). Name another --output, or remove that folder to start over."
            )
        return
    if output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise OutputFolderError(
            f"{output} is not empty, and holds no {holds}. Name another --output."
        )
    output.mkdir(parents=True, exist_ok=True)
    write_json(file, settings)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed, one "key: before → now" per key."""
    keys = dict.fromkeys([*before, *now])
    return [
        f"{key}: {before.get(key)} → {now.get(key)}"
        for key in keys
        if before.get(key) != now.get(key)
    ]

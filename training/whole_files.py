"""Atomic writes, file digests, and output folders that belong to one command's settings.

``write_whole``, ``rename`` and ``sync_to_disk`` are the library's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from comfyui_fitv2.whole_file import TEMPORARY_SUFFIX, rename, sync_to_disk, write_whole

__all__ = [
    "TEMPORARY_SUFFIX",
    "OutputFolderError",
    "check_output_folder",
    "differences",
    "file_digest",
    "read_json",
    "rename",
    "require_outside",
    "sync_to_disk",
    "write_json",
    "write_text",
    "write_whole",
]

Settings = Mapping[str, Any]
"""Values that JSON can hold, by name."""


class OutputFolderError(ValueError):
    """An output folder that is used for something else; the message says what differs."""


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises ``ValueError`` that names a damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}). Restore it from a copy.") from None


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as a JSON file, atomically."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False))


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file, atomically."""
    with write_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_digest(*paths: Path) -> str:
    """The first 16 hex digits of the SHA-256 of the files' concatenated contents."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


def differences(before: Settings, now: Settings) -> list[str]:
    """The keys whose values differ, each as "key: before → now"."""
    keys = dict.fromkeys([*before, *now])
    return [
        f"{key}: {before.get(key)} → {now.get(key)}"
        for key in keys
        if before.get(key) != now.get(key)
    ]


def require_outside(output: Path, images: Path) -> None:
    """Raise ``OutputFolderError`` where ``output`` lies in a folder whose images are all used."""
    if output.resolve().is_relative_to(images.resolve()):
        raise OutputFolderError(
            f"{output} is among the images in {images}, and what is written there would count "
            "among them the next time. Name another --output."
        )


def check_output_folder(
    output: Path,
    settings: Settings,
    *,
    name: str,
    holds: str,
    compare: Callable[[Settings, Settings], Sequence[str]] = differences,
) -> None:
    """Check that the folder ``output`` belongs to ``settings``; create it on first use.

    The settings are stored in the folder's file ``name``. ``holds`` describes the folder's content
    in messages, such as "generated images"; ``compare`` lists how the settings before and now
    differ. Raises ``OutputFolderError`` where the folder was made with different settings or
    contains files of something else, and where ``output`` is a file.
    """
    file = output / name
    if output.exists() and not output.is_dir():
        raise OutputFolderError(f"{output} is a file. Name a folder.")
    if file.is_file():
        before = read_json(file)
        if changed := compare(before, settings):
            raise OutputFolderError(
                f"{output} contains {holds} made with different settings "
                f"({'; '.join(changed)}). Name another --output, or remove that folder to start "
                "over."
            )
        return
    if output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise OutputFolderError(
            f"{output} is not empty and contains no {holds}. Name another --output."
        )
    output.mkdir(parents=True, exist_ok=True)
    write_json(file, settings)

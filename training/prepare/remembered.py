"""The folders that a list of images was made of, so that a run that resumes need not list again.

A folder's time of change tells that a file came, went or got another name. It does not tell that a
file was written over in its place: for that, a run that has not listed the images looks at all of
them once, at its end. A complete set is always compared with its images.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..whole_files import write_json
from .plan import Plan

FOLDERS_FILE = "folders.json"
_READERS = 16
_RECENT = 2_000_000_000
"""Nanoseconds in which a folder may change twice without another time, on old file systems."""


def remember(output: Path, plan: Plan, folders: Iterable[str], listed: int) -> None:
    """Note the folders of the plan's images, which were listed from the time ``listed`` on, in
    nanoseconds. Nothing is noted where one has changed since, or just before."""
    times = _times(folders)
    file = output / FOLDERS_FILE
    if times and max(times.values()) < listed - _RECENT and -1 not in times.values():
        write_json(file, {**_identity(plan), "folders": times})
    else:
        file.unlink(missing_ok=True)


def are_unchanged(output: Path, plan: Plan) -> bool:
    """Whether no folder of the plan's images has changed."""
    try:
        content = json.loads((output / FOLDERS_FILE).read_text(encoding="utf-8"))
        same_plan = all(content[name] == value for name, value in _identity(plan).items())
        return same_plan and content["folders"] == _times(content["folders"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged
        return False


def forget(output: Path) -> None:
    """Forget the folders, because the set is complete."""
    (output / FOLDERS_FILE).unlink(missing_ok=True)


def now() -> int:
    """The time for ``remember``."""
    return time.time_ns()


def _identity(plan: Plan) -> dict[str, int]:
    return {"version": plan.version, "images": len(plan.images)}


def _times(folders: Iterable[str]) -> dict[str, int]:
    """When each folder was changed last, in nanoseconds; -1 where it cannot be read."""

    def changed(folder: str) -> int:
        try:
            return Path(folder).stat().st_mtime_ns
        except OSError:
            return -1

    names = list(folders)
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(names, readers.map(changed, names), strict=True))

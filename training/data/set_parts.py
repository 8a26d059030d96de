"""``latent_set.json``: what makes up a complete latent set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, NamedTuple

from comfyui_fitv2.untrusted_json import parse_json

from ..whole_files import write_json
from .latent_set import INFO_FILE, LatentSetError, LatentSetInfo, SetChange
from .set_files import SetFiles
from .set_index import SetIndex
from .shards import FileFacts, read_rows

_OLD_FORMATS, _FORMAT = (1, 2), 3
"""Older sets have no index and no checksums."""
_MOST_SHARDS = 1_000_000
_CHECKSUM = re.compile("[0-9a-f]{32}")


class ListedShard(NamedTuple):
    """A shard as ``latent_set.json`` lists it."""

    rows: int
    bytes: int
    checksum: str

    @property
    def facts(self) -> FileFacts:
        return FileFacts(self.bytes, self.checksum)


@dataclass(frozen=True, slots=True)
class SetParts:
    """What makes up a complete set."""

    info: LatentSetInfo
    examples: int
    shards: tuple[int, ...]
    """Numbers of the shards, in their order."""
    class_ids: tuple[int, ...] | None = None
    """The class id of each label in the shards; None where they are the same."""
    history: tuple[SetChange, ...] = ()
    listed: tuple[ListedShard, ...] = ()
    """One for each of ``shards``; none in sets of older versions."""
    index: FileFacts | None = None
    """None in sets of older versions."""


def finish(
    folder: Path,
    info: LatentSetInfo,
    shards: int | Sequence[int],
    class_ids: Sequence[int] | None = None,
    history: Sequence[SetChange] = (),
) -> SetParts:
    """Declare the set complete, with these shards or with the first of this number.

    ``class_ids`` is the class id of each label in the shards, where they are not the same. Needs
    the files beside the shards, not the shards themselves.
    """
    numbers = range(shards) if isinstance(shards, int) else shards
    rows = [read_rows(folder, number) for number in numbers]
    listed = tuple(ListedShard(len(found.table), *found.shard) for found in rows)
    facts = SetIndex.of_rows(found.table for found in rows).write(folder)
    parts = SetParts(
        info,
        sum(shard.rows for shard in listed),
        tuple(numbers),
        None if class_ids is None else tuple(class_ids),
        tuple(history),
        listed,
        facts,
    )
    content: dict[str, Any] = {
        "format": _FORMAT,
        "pictures": parts.examples,
        "shards": list(numbers),
        "shard_files": [list(shard) for shard in listed],
        "index": list(facts),
    }
    if class_ids is not None:
        content["class_ids"] = list(class_ids)
    if history:
        content["history"] = [change.to_dict() for change in history]
    write_json(folder / INFO_FILE, {**content, **info.to_dict()})
    return parts


def read_parts(files: SetFiles) -> SetParts:
    """What a complete set says of itself. Raises ``LatentSetError`` for any other folder."""
    place = files.place
    if isinstance(place, Path) and not place.is_dir():
        reason = "a file, not the folder of a latent set." if place.exists() else "no such folder."
        raise LatentSetError(place, reason)
    try:
        text = files.read(INFO_FILE).decode()
    except FileNotFoundError:
        unfinished = isinstance(place, Path) and any(place.glob("shard-*.arrow"))
        raise LatentSetError(
            place,
            "not finished: run the same prepare command again."
            if unfinished
            else f"not a latent set: it has no {INFO_FILE}. python -m training.prepare makes one.",
        ) from None
    except UnicodeDecodeError as error:
        raise _damaged(files, error) from None
    try:
        content: dict[str, Any] = parse_json(text)
        version = content.pop("format")
        count, shards = int(content.pop("pictures")), content.pop("shards")
        if version in (*_OLD_FORMATS, _FORMAT):
            numbers = range(shards) if type(shards) is int else shards
            class_ids = content.pop("class_ids", None)
            history = tuple(map(SetChange.from_dict, content.pop("history", ())))
            listed = [ListedShard(*_listed(*shard)) for shard in content.pop("shard_files", ())]
            facts = content.pop("index", None)
            if not 1 <= len(numbers) <= _MOST_SHARDS:
                raise ValueError(f"it names {len(numbers)} shards")
            if version == _FORMAT and (facts is None or len(listed) != len(numbers)):
                raise ValueError("its shards are not those that it lists")
            if version != _FORMAT and files.is_remote:
                raise LatentSetError(
                    place,
                    "a latent set of an older version, without checksums. Copy it to this machine, "
                    "or prepare it again with this address as --output.",
                )
            return SetParts(
                LatentSetInfo.from_dict(content),
                count,
                tuple(map(index, numbers)),
                None if class_ids is None else tuple(map(index, class_ids)),
                history,
                tuple(listed),
                None if facts is None else FileFacts(*_facts(*facts)),
            )
    except LatentSetError:
        raise
    except (OverflowError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(files, error) from None
    raise LatentSetError(place, "a latent set of a newer version. Update this project.")


def _listed(rows: Any, size: Any, checksum: Any) -> tuple[int, int, str]:
    return index(rows), *_facts(size, checksum)


def _facts(size: Any, checksum: Any) -> tuple[int, str]:
    if not _CHECKSUM.fullmatch(checksum) or index(size) < 0:  # it becomes a part of file names
        raise ValueError(f"{checksum!r:.100} is not a checksum")
    return index(size), checksum


def _damaged(files: SetFiles, error: Exception) -> LatentSetError:
    return LatentSetError(
        files.place,
        f"its {INFO_FILE} is damaged ({error!r}). Remove that file, and run prepare again.",
    )

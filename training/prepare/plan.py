"""What ``prepare`` sets out to do, written down first: every process and every later run does parts
of the same work.

``plan.json`` holds the settings and the classes, ``pictures.arrow`` the file, the class id and the
size in bytes of each image. Shard k holds the k-th ``shard_size`` images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..data.sources import Listing
from ..whole_files import check_output_folder, differences, write_whole

PLAN_FILE = "plan.json"
_LISTING_FILE = "pictures.arrow"
_MAX_SHARD_SIZE, _MIN_SHARD_SIZE, _MIN_SHARDS = 1024, 64, 64
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Plan:
    class_names: tuple[str, ...]
    left_out: dict[str, str]
    """The reason for each file or folder that is not part of the set."""
    shard_size: int
    files: pa.ChunkedArray
    class_ids: np.ndarray
    """(n,), one per file."""

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-len(self.class_ids) // self.shard_size)

    def shard(self, number: int) -> range:
        """Indices of the images of a shard."""
        start = number * self.shard_size
        return range(start, min(start + self.shard_size, len(self.class_ids)))


def make_plan(
    output: Path, listing: Listing, settings: Mapping[str, Any], shard_size: int | None
) -> None:
    """Write the plan, or check that the existing one is the same.

    Raises ``OutputFolderError`` where it is another, or the folder holds something else.
    """
    if shard_size is None:
        per_shard = -(-len(listing.files) // _MIN_SHARDS)
        shard_size = min(max(per_shard, _MIN_SHARD_SIZE), _MAX_SHARD_SIZE)
    columns = {"file": listing.files, "label": listing.class_ids, "bytes": listing.sizes}
    images = pa.table(
        columns, pa.schema({"file": pa.string(), "label": pa.int64(), "bytes": pa.int64()})
    )
    content = {
        "settings": {**settings, "shard-size": shard_size},
        "class_names": listing.class_names,
        "fingerprint": listing.fingerprint,
        "left_out": listing.left_out,
    }

    def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
        same_images = before["fingerprint"] == now["fingerprint"]
        return [
            *_class_changes(before["class_names"], now["class_names"]),
            *_image_changes(_read_listing(output), images, same_images),
            *differences(_settings(before), now["settings"]),
        ]

    check_output_folder(output, content, name=PLAN_FILE, holds="a latent set", compare=changes)
    listing_file = output / _LISTING_FILE
    if not listing_file.is_file():
        with (
            write_whole(listing_file) as temporary,
            pa.OSFile(str(temporary), "wb") as file,
            pa.ipc.new_stream(file, images.schema) as stream,
        ):
            stream.write_table(images)


def open_plan(output: Path) -> Plan:
    content = json.loads((output / PLAN_FILE).read_text(encoding="utf-8"))
    images = _read_listing(output)
    assert images is not None
    return Plan(
        tuple(content["class_names"]),
        content["left_out"],
        content["settings"]["shard-size"],
        images["file"],
        images["label"].to_numpy(),
    )


def _read_listing(output: Path) -> pa.Table | None:
    """The images of the plan; None where a run was ended before it had written them."""
    path = output / _LISTING_FILE
    if not path.is_file():
        return None
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return stream.read_all()


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(content["settings"])
    if "resolution" in settings:  # the option's name in older plans
        settings["image-size"] = settings.pop("resolution")
    return settings


def _class_changes(before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    if before != now:
        yield f"{_counted(before, 'class')} → {_counted(now, 'class')}"


def _image_changes(before: pa.Table | None, now: pa.Table, same_images: bool) -> Iterator[str]:
    if before is None or (before.equals(now) and same_images):
        return
    old, new = (
        {file: (label, size) for file, label, size in zip(*table.to_pydict().values(), strict=True)}
        for table in (before, now)
    )
    both = old.keys() & new.keys()
    changes = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "of another size": sorted(file for file in both if old[file][1] != new[file][1]),
    }
    said = [f"{_counted(files, 'image')} {what}" for what, files in changes.items() if files]
    yield from said or ["other labels or contents of the images"]


def _counted(names: Sequence[str], noun: str) -> str:
    plural = noun if len(names) == 1 else f"{noun}{'e' * noun.endswith('s')}s"
    return f"{len(names)} {plural} ({', '.join(names[:_NAMED])}{', …' * (len(names) > _NAMED)})"

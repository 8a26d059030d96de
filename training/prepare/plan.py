"""What ``prepare`` set out to do, written down before it begins: every process and every later run does parts of the same work.

``plan.json`` holds the settings and the classes, ``pictures.arrow`` each picture's file, label and size in bytes. Shard k is the k-th run of
``shard_size`` pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..data.sources import Listing
from ..whole_files import temporary_file, write_json

PLAN_FILE = "plan.json"
_LISTING_FILE = "pictures.arrow"
_LARGEST_SHARD, _SMALLEST_SHARD, _LEAST_SHARDS = 1024, 64, 64
_NAMED = 3


class PlanError(ValueError):
    """An output folder that holds, or was begun for, something else; the message says what differs and what to do."""

    def __init__(self, output: Path, what: str) -> None:
        super().__init__(
            f"{output}: {what} Name another --output, or remove that folder to begin anew."
        )


@dataclass(frozen=True, slots=True)
class Plan:
    settings: dict[str, Any]
    """All that decides the latents, by name of the option."""
    class_names: tuple[str, ...]
    left_out: dict[str, str]
    shard_size: int
    files: pa.ChunkedArray
    labels: np.ndarray

    @property
    def shards(self) -> int:
        return -(-len(self.labels) // self.shard_size)

    def shard(self, number: int) -> range:
        """Indices of its pictures."""
        start = number * self.shard_size
        return range(start, min(start + self.shard_size, len(self.labels)))


def make_plan(
    output: Path, listing: Listing, settings: dict[str, Any], shard_size: int | None
) -> None:
    """Write the plan, or check that the one which is there is the same. Raises ``PlanError`` where it is another."""
    shard_size = shard_size or min(
        max(-(-len(listing.files) // _LEAST_SHARDS), _SMALLEST_SHARD), _LARGEST_SHARD
    )
    settings = {**settings, "shard-size": shard_size}
    pictures = pa.table(
        {
            "file": pa.array(listing.files, pa.string()),
            "label": listing.labels,
            "bytes": listing.sizes,
        }
    )
    content = {
        "settings": settings,
        "class_names": listing.class_names,
        "fingerprint": listing.fingerprint,
        "left_out": listing.left_out,
    }
    if (output / PLAN_FILE).is_file():
        begun = json.loads((output / PLAN_FILE).read_text(encoding="utf-8"))
        differences = [
            *_listing_differences(_read_listing(output), pictures, begun, content),
            *_setting_differences(begun["settings"], settings),
        ]
        if differences:
            raise PlanError(output, f"was begun otherwise: {'; '.join(differences)}.")
        return
    if output.exists() and any(path.name != _LISTING_FILE for path in output.iterdir()):
        raise PlanError(output, "holds files, and none is the plan of a latent set.")
    output.mkdir(parents=True, exist_ok=True)
    with (
        temporary_file(output / _LISTING_FILE) as file,
        pa.ipc.new_stream(file, pictures.schema) as stream,
    ):
        stream.write_table(pictures)
    write_json(output / PLAN_FILE, content)


def open_plan(output: Path) -> Plan:
    content = json.loads((output / PLAN_FILE).read_text(encoding="utf-8"))
    pictures = _read_listing(output)
    settings: dict[str, Any] = content["settings"]
    labels = pictures["label"].to_numpy()
    return Plan(
        settings,
        tuple(content["class_names"]),
        content["left_out"],
        settings["shard-size"],
        pictures["file"],
        labels,
    )


def _read_listing(output: Path) -> pa.Table:
    with pa.memory_map(str(output / _LISTING_FILE)) as file:
        return pa.ipc.open_stream(file).read_all()


def _setting_differences(begun: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name in sorted({*begun, *now}):
        if begun.get(name) != now.get(name):
            yield f"--{name} was {begun.get(name)}, now {now.get(name)}"


def _listing_differences(
    begun: pa.Table, now: pa.Table, begun_content: dict[str, Any], now_content: dict[str, Any]
) -> Iterator[str]:
    if begun.equals(now) and all(
        begun_content[key] == now_content[key] for key in ("class_names", "fingerprint")
    ):
        return
    old, new = (
        {file: (label, size) for file, label, size in zip(*table.to_pydict().values(), strict=True)}
        for table in (begun, now)
    )
    changes = {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "of another size": sorted(
            file for file in old.keys() & new.keys() if old[file][1] != new[file][1]
        ),
    }
    said = [f"{_counted(files, 'picture')} {what}" for what, files in changes.items() if files]
    if begun_content["class_names"] != now_content["class_names"]:
        said.append(
            f"the classes were {_counted(begun_content['class_names'], 'class')}, now {_counted(now_content['class_names'], 'class')}"
        )
    yield "; ".join(said) or "the labels or the contents of the pictures have changed"


def _counted(names: Sequence[str], noun: str) -> str:
    plural = noun if len(names) == 1 else f"{noun}{'e' * noun.endswith('s')}s"
    return f"{len(names)} {plural} ({', '.join(names[:_NAMED])}{', …' * (len(names) > _NAMED)})"

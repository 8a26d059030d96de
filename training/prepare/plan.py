"""What ``prepare`` sets out to do, written down first: every process and every later run does parts
of the same work.

``plan.json`` holds the settings and the classes, ``pictures.arrow`` the file, the class id, the
size in bytes and the time of change of each image. Shard k holds the k-th ``shard_size`` images.

When the images change, ``plan.json`` is replaced by one that names another list of images
(``pictures-1.arrow``). That list also gives the shard of each image and, where the image is encoded
already, the shard to copy it from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from comfyui_fitv2.resolution import VAE_FACTOR

from ..data.sources import Listing
from ..whole_files import check_output_folder, differences, read_json
from .set_folder import PLAN_FILE, SetFolder

_LISTING_FILE = "pictures.arrow"
_SHARD_BYTES = 256 * 2**20
"""Of a large set's shard at most. Smaller ones meet a limit of Linux, 65,530 memory maps for each
process, with fewer images: at 256 pixels 67 million images are 16,000 shards. Larger ones lose more
work, or a longer transfer, when they are interrupted."""
_MIN_SHARD_SIZE, _MIN_SHARDS = 64, 64
_MOST_CHANNELS = 4
"""Latent channels of the usual VAEs: a plan is made before the VAE is opened."""
_ENCODE = -1
"""In place of a shard: the image is not encoded yet."""


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image of a plan, where it goes, and where it comes from."""

    file: str
    label: int
    """Its class, as an index into ``Plan.class_names``."""
    size: int
    """Bytes of the file; -1 where unknown."""
    modified: int
    """When the file was changed last, in nanoseconds; -1 where unknown."""
    shard: int
    source: int = _ENCODE
    """The shard to copy it from."""
    source_file: str = ""
    """Its name in that shard."""


@dataclass(frozen=True, slots=True)
class Plan:
    class_names: tuple[str, ...]
    """A label is an index into these; a new class is appended."""
    left_out: dict[str, str]
    """The reason for each file or folder that is not part of the set."""
    settings: dict[str, Any]
    fingerprint: str
    images: pa.Table
    labels: np.ndarray = field(compare=False)
    """(n,), one per image."""
    version: int = 0
    """How often the images have changed since the plan was made."""
    published: tuple[str, ...] = ()
    """Class names of the complete set before; they keep their class ids."""
    _rows: dict[int, range] = field(default_factory=dict)
    """Indices of the images of each shard, by its number."""

    @property
    def files(self) -> pa.ChunkedArray:
        return self.images["file"]

    @property
    def shards(self) -> list[int]:
        """The numbers of the shards, in their order."""
        return list(self._rows)

    @property
    def shard_size(self) -> int:
        return self.settings["shard-size"]

    def shard(self, number: int) -> range:
        """Indices of the images of a shard."""
        return self._rows[number]

    def source(self, number: int) -> int | None:
        """The shard from which all images of this one are copied, or None."""
        if "source" not in self.images.column_names:
            return None
        source = self.images["source"][self.shard(number).start].as_py()
        return None if source == _ENCODE else source

    def copied(self, number: int) -> dict[str, tuple[str, int]]:
        """File and label of each image of a copied shard, by its file in the source."""
        rows = self.shard(number)
        part = self.images.slice(rows.start, len(rows))
        columns = (part[name].to_pylist() for name in ("source_file", "file", "label"))
        return {before: (file, label) for before, file, label in zip(*columns, strict=True)}

    def to_encode(self) -> np.ndarray:
        """Indices of the images that are not copied from another shard."""
        if "source" not in self.images.column_names:
            return np.arange(len(self.images))
        return np.flatnonzero(self.images["source"].to_numpy() == _ENCODE)

    def entries(self) -> list[PlannedImage]:
        """All images, as Python objects."""
        numbers = [number for number, rows in self._rows.items() for _ in rows]
        count = len(self.images)
        absent = {
            "modified": [-1] * count,
            "source": [_ENCODE] * count,
            "source_file": [""] * count,
        }
        columns = {**absent, "shard": numbers, **self.images.to_pydict()}
        names = ("file", "label", "bytes", "modified", "shard", "source", "source_file")
        return [PlannedImage(*row) for row in zip(*(columns[n] for n in names), strict=True)]


def first_plan(listing: Listing, settings: Mapping[str, Any], shard_size: int | None) -> Plan:
    """The plan of a set that does not exist yet."""
    if shard_size is None:
        shard_size = images_per_shard(len(listing.files), settings)
    columns = {
        "file": pa.array(listing.files, pa.string()),
        "label": pa.array(listing.class_ids, pa.int64()),
        "bytes": pa.array(listing.sizes, pa.int64()),
        "modified": pa.array(listing.modified, pa.int64()),
    }
    return _plan(
        {
            "settings": {**settings, "shard-size": shard_size},
            "class_names": listing.class_names,
            "fingerprint": listing.fingerprint,
            "left_out": listing.left_out,
        },
        pa.table(columns),
    )


def images_per_shard(images: int, settings: Mapping[str, Any]) -> int:
    """As many as make a shard of ``_SHARD_BYTES`` if all have a crop and a posterior; fewer in a
    small set, so that its shards can be encoded by many processes, and little is lost."""
    pixels = (settings["image-size"] // VAE_FACTOR) ** 2
    versions, moments, bytes_of_a_value = 2 * (1 + settings["flip"]), 2, 2
    per_image = versions * moments * bytes_of_a_value * _MOST_CHANNELS * pixels
    return max(min(-(-images // _MIN_SHARDS), _SHARD_BYTES // per_image), _MIN_SHARD_SIZE)


def later_plan(
    before: Plan,
    listing: Listing,
    class_names: Sequence[str],
    images: Iterable[PlannedImage],
    published: Sequence[str],
) -> Plan:
    """The plan after ``before``, for other ``images``, which are ordered by shard."""
    rows = list(images)
    columns = {
        "file": pa.array([image.file for image in rows], pa.string()),
        "label": pa.array([image.label for image in rows], pa.int64()),
        "bytes": pa.array([image.size for image in rows], pa.int64()),
        "modified": pa.array([image.modified for image in rows], pa.int64()),
        "shard": pa.array([image.shard for image in rows], pa.int64()),
        "source": pa.array([image.source for image in rows], pa.int64()),
        "source_file": pa.array([image.source_file for image in rows], pa.string()),
    }
    content = {
        "settings": before.settings,
        "class_names": list(class_names),
        "fingerprint": listing.fingerprint,
        "left_out": listing.left_out,
        "version": before.version + 1,
        "published": list(published),
    }
    return _plan(content, pa.table(columns))


def check_settings(output: SetFolder, settings: Mapping[str, Any], shard_size: int | None) -> None:
    """Raise ``OutputFolderError`` where the folder holds a set with other settings, or something
    else."""

    def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
        stored = {"enlarge": False, **_settings(before)}
        chosen = stored["shard-size"] if shard_size is None else shard_size
        return differences(stored, {"enlarge": False, **now, "shard-size": chosen})

    folder = output.folder
    is_new = not folder.exists() or (
        folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir())
    )
    if not is_new:
        check_output_folder(folder, settings, name=PLAN_FILE, holds="a latent set", compare=changes)


def write_plan(output: SetFolder, plan: Plan) -> None:
    """Make this the plan of the folder. If the process is killed, the plan before is still there,
    or this one."""
    content = {
        "settings": plan.settings,
        "class_names": list(plan.class_names),
        "fingerprint": plan.fingerprint,
        "left_out": plan.left_out,
    }
    if plan.version:
        content |= {"version": plan.version, "published": list(plan.published)}
    output.folder.mkdir(parents=True, exist_ok=True)
    if not plan.version:  # first, because it says whose folder this is
        output.write_json(PLAN_FILE, content)
    with (
        output.writing(_listing_file(plan.version)) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pa.ipc.new_stream(file, plan.images.schema) as stream,
    ):
        stream.write_table(plan.images)
    if plan.version:  # last, because the plan before counts until the list is there
        output.write_json(PLAN_FILE, content)
    output.remove_listings_but(_listing_file(plan.version))


def open_plan(output: Path) -> Plan | None:
    """The plan of a folder; None where there is none, or only a part of one."""
    file = output / PLAN_FILE
    if not file.is_file():
        return None
    content = read_json(file)
    listing = output / _listing_file(content.get("version", 0))
    if not listing.is_file():
        return None
    # Not memory-mapped: Windows could not replace the file then.
    with pa.ipc.open_stream(listing.read_bytes()) as stream:
        images = stream.read_all()
    return _plan(content, images)


def _plan(content: Mapping[str, Any], images: pa.Table) -> Plan:
    settings = _settings(content)
    if "shard" in images.column_names:
        numbers = images["shard"].to_numpy()
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        ends = [*starts[1:].tolist(), len(numbers)]
        rows = {
            int(numbers[start]): range(start, end)
            for start, end in zip(starts.tolist(), ends, strict=True)
        }
    else:
        size, count = settings["shard-size"], len(images)
        starts = range(0, count, size)
        rows = {i: range(start, min(start + size, count)) for i, start in enumerate(starts)}
    return Plan(
        tuple(content["class_names"]),
        content["left_out"],
        settings,
        content["fingerprint"],
        images,
        images["label"].to_numpy(),
        content.get("version", 0),
        tuple(content.get("published", ())),
        rows,
    )


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    settings = dict(content["settings"])
    if "resolution" in settings:  # the option's name in older plans
        settings["image-size"] = settings.pop("resolution")
    return settings


def _listing_file(version: int) -> str:
    return f"pictures-{version}.arrow" if version else _LISTING_FILE

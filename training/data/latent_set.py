"""Latent sets: what a VAE made of a folder of pictures, on disk, and read without being read into memory.

A set is a folder of Arrow files (the ``datasets`` library) and ``latent_set.json``, which is written last: without it the set is
not complete. Arrow and not webdataset, because an epoch that packs sequences by length, and resumes anywhere, reads pictures in any
order, where a tar is read from its beginning. Arrow files are memory-mapped, so that a set of millions opens in seconds and
processes of a machine share its pages; and any tool that knows ``datasets`` reads them (``Dataset.from_file``).

A row is a picture. ``resized`` and ``cropped`` are fp16, the shape (flips, moments, channels, height, width) laid flat: flips is the
plain picture and, where the set has them, the flipped one, moments the mean and, where the VAE has a posterior, its standard deviation.
They are in the model's scale (the VAE's, times ``scale_factor``), where fp16 rounds by less than 1/2000 of a value, a small part of
that deviation. A picture with no cropped version has an empty ``cropped`` and the grid of the resized one.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets
from torch import Tensor

from ..whole_files import temporary_file, write_json

INFO_FILE = "latent_set.json"
FORMAT = 1
PATCH = 2
"""Latent pixels a token covers on each side; grids are in tokens."""
SD_SCALE = 0.18215
"""Scale factor of Stable Diffusion's latents, and of such as do not say theirs."""

_VERSIONS = ("resized", "cropped")
_FEATURES = Features(
    {
        "file": Value("string"),
        "label": Value("int64"),
        "rows": Value("int32"),
        "columns": Value("int32"),
        "cropped_rows": Value("int32"),
        "cropped_columns": Value("int32"),
        **{version: List(Value("float16")) for version in _VERSIONS},
    }
)
_FAILURES_KEY = b"failures"
_ROWS_PER_BATCH = 64


class LatentSetError(ValueError):
    """A folder that is not a usable latent set; the message names it, what it is, and what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")


@dataclass(frozen=True, slots=True)
class LatentSetInfo:
    """All that is true of a whole latent set."""

    class_names: tuple[str, ...]
    """One name a class; a label is an index into them."""
    channels: int
    """Latent channels."""
    resolution: int
    """S: a resized picture has at most S² pixels, a cropped one S × S."""
    latent_format: dict[str, Any]
    """Fields of ``comfyui_fitv2.config.LatentFormat``."""
    vae: str
    """The VAE as it was named to ``prepare``, for people."""
    flips: bool = True
    """Whether the flipped pictures were encoded too."""
    posterior: bool = False
    """Whether standard deviations are stored; a VAE without a posterior has none."""


class LatentSet(ABC):
    """Pictures as moments of their latents, by index. Copies to other processes are cheap: they hold file names, not latents."""

    info: LatentSetInfo
    labels: np.ndarray
    """(n,) int64."""
    grids: np.ndarray
    """(n, 2, 2) int64: tokens as (rows, columns), of the resized, then of the cropped version; twice the same where there is no crop."""

    @staticmethod
    def open(path: str | os.PathLike[str]) -> LatentSet:
        """Open a complete set, ours or in the layout of the official releases. Raises ``LatentSetError`` on any other folder."""
        from .official_set import OfficialLatentSet, official_tokens

        path = Path(path)
        tokens = official_tokens(path)
        return ArrowLatentSet(path) if tokens is None else OfficialLatentSet(path, tokens)

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each fp32 (channels, height, width), in the scale that the model sees.

        Where there is no cropped version the resized one comes, and where the set has no flips the plain one. The deviation is 0
        where the VAE has no posterior.
        """


class ArrowLatentSet(LatentSet):
    """A set that ``prepare`` wrote."""

    def __init__(self, path: Path) -> None:
        self.info, count, shards = _read_info(path)
        missing = [
            shard.name
            for shard in (shard_path(path, number) for number in range(shards))
            if not shard.is_file()
        ]
        if missing:
            raise LatentSetError(
                path,
                f"{len(missing)} of its {shards} shards are gone, such as {missing[0]}. Copy it again, or run prepare again.",
            )
        parts = [read_shard(path, number) for number in range(shards)]
        self._pictures = concatenate_datasets([part for part in parts if len(part)]).with_format(
            "arrow"
        )
        if len(self._pictures) != count:
            raise LatentSetError(
                path,
                f"its shards hold {len(self._pictures)} pictures, not the {count} that {INFO_FILE} counts. Run prepare again.",
            )
        self.labels = self._integers("label")
        self.grids = np.stack(
            [
                self._integers(name)
                for name in ("rows", "columns", "cropped_rows", "cropped_columns")
            ],
            axis=1,
        ).reshape(-1, 2, 2)

    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        row = self._pictures[int(index)]
        stored = row["cropped"].chunk(0).flatten() if cropped else None
        if not stored:  # not cropped, or no cropped version
            cropped, stored = False, row["resized"].chunk(0).flatten()
        rows, columns = self.grids[index, int(cropped)] * PATCH
        values = stored.to_numpy().reshape(
            1 + self.info.flips, 1 + self.info.posterior, self.info.channels, rows, columns
        )
        view = torch.from_numpy(values[int(flipped and self.info.flips)].astype(np.float32))
        return view[0], view[1] if self.info.posterior else torch.zeros_like(view[0])

    def _integers(self, column: str) -> np.ndarray:
        return self._pictures.data.column(column).to_numpy().astype(np.int64)


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """A row of a shard. Versions are (flips, moments, channels, height, width) in the model's scale."""

    file: str
    label: int
    resized: Tensor
    cropped: Tensor | None


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:06d}.arrow"


def write_shard(
    folder: Path,
    number: int,
    pictures: Sequence[EncodedPicture],
    failures: Mapping[str, str] | None = None,
) -> None:
    """Write a shard, whole or not at all. ``failures`` says of each file that could not be encoded why not, and travels in the schema."""
    schema = _FEATURES.arrow_schema
    schema = schema.with_metadata(
        {**(schema.metadata or {}), _FAILURES_KEY: json.dumps(dict(failures or {})).encode()}
    )
    with (
        temporary_file(shard_path(folder, number)) as file,
        pa.ipc.new_stream(file, schema) as stream,
    ):
        for start in range(0, len(pictures), _ROWS_PER_BATCH):
            stream.write_batch(_batch(pictures[start : start + _ROWS_PER_BATCH], schema))


def read_shard(folder: Path, number: int) -> Dataset:
    """A shard, memory-mapped. Raises ``LatentSetError`` on a damaged one."""
    path = shard_path(folder, number)
    try:
        return Dataset.from_file(str(path))
    except (pa.ArrowInvalid, OSError) as error:
        raise LatentSetError(
            path, f"not a readable Arrow file ({error}). Remove it, and run prepare again."
        ) from None


def shard_failures(folder: Path, number: int) -> dict[str, str]:
    """What ``write_shard`` was told of files that could not be encoded."""
    with pa.memory_map(str(shard_path(folder, number))) as file, pa.ipc.open_stream(file) as stream:
        return json.loads((stream.schema.metadata or {})[_FAILURES_KEY])


def count_pictures(folder: Path, shards: int) -> int:
    return sum(len(read_shard(folder, number)) for number in range(shards))


def finish(folder: Path, info: LatentSetInfo, shards: int) -> None:
    """Declare the set of this many shards complete."""
    write_json(
        folder / INFO_FILE,
        {
            "format": FORMAT,
            "pictures": count_pictures(folder, shards),
            "shards": shards,
            **asdict(info),
        },
    )


def _read_info(path: Path) -> tuple[LatentSetInfo, int, int]:
    if not path.is_dir():
        raise LatentSetError(
            path,
            "no such folder." if not path.exists() else "a file, not the folder of a latent set.",
        )
    file = path / INFO_FILE
    if not file.is_file():
        begun = any(path.glob("shard-*.arrow"))
        raise LatentSetError(
            path,
            "not finished: run the same prepare command again."
            if begun
            else f"not a latent set: no {INFO_FILE} in it. python -m training.prepare makes one.",
        )
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise LatentSetError(path, "a latent set of a newer version. Update this project.")
        count, shards = int(content.pop("pictures")), int(content.pop("shards"))
        content["class_names"] = tuple(content["class_names"])
        if set(content) != {f.name for f in fields(LatentSetInfo)}:
            raise KeyError(*sorted(set(content) ^ {f.name for f in fields(LatentSetInfo)}))
        return LatentSetInfo(**content), count, shards
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise LatentSetError(
            path,
            f"its {INFO_FILE} is damaged ({error!r}). Remove that file, and run prepare again.",
        ) from None


def _batch(pictures: Sequence[EncodedPicture], schema: pa.Schema) -> pa.RecordBatch:
    grids = [_grid(p.resized) for p in pictures]
    cropped_grids = [
        grid if p.cropped is None else _grid(p.cropped)
        for p, grid in zip(pictures, grids, strict=True)
    ]
    columns = {
        "file": [p.file for p in pictures],
        "label": [p.label for p in pictures],
        "rows": [rows for rows, _ in grids],
        "columns": [columns for _, columns in grids],
        "cropped_rows": [rows for rows, _ in cropped_grids],
        "cropped_columns": [columns for _, columns in cropped_grids],
    }
    arrays = [pa.array(values, type=schema.field(name).type) for name, values in columns.items()]
    versions = ((p.resized for p in pictures), (p.cropped for p in pictures))
    return pa.record_batch([*arrays, *(_lists(version) for version in versions)], schema=schema)


def _grid(version: Tensor) -> tuple[int, int]:
    return version.shape[-2] // PATCH, version.shape[-1] // PATCH


def _lists(tensors: Iterable[Tensor | None]) -> pa.ListArray:
    values = [
        np.empty(0, np.float16)
        if t is None
        else t.to("cpu", torch.float16).contiguous().numpy().ravel()
        for t in tensors
    ]
    offsets = np.cumsum([0, *(len(v) for v in values)], dtype=np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.array(np.concatenate(values), type=pa.float16())
    )

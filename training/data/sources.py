"""Where the pictures of a latent set come from: which there are, of which class, and their bytes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, TypeVar

from datasets import ClassLabel, Dataset, Image, load_from_disk

from .decode import SUFFIXES

T = TypeVar("T")

_FILE_COLUMNS = ("file", "file_name")
_LABEL_COLUMN = "label"
_NO_PICTURE = "not a picture by its suffix"


def evenly(items: Sequence[T], most: int) -> list[T]:
    """All of ``items``, or ``most`` of them, evenly spread."""
    return (
        list(items) if len(items) <= most else [items[i * len(items) // most] for i in range(most)]
    )


class PicturesError(ValueError):
    """Pictures that cannot be listed; the message names where, what was found, and what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")


@dataclass(slots=True)
class Listing:
    """Pictures in a fixed order, the same on every machine."""

    class_names: list[str]
    files: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes; -1 where unknown. A picture that was exchanged shows by its size."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Files and folders that are not part of it, and why not."""
    fingerprint: str = ""
    """What a data set says of its contents."""

    def add(self, file: str, label: int, size: int) -> None:
        self.files.append(file)
        self.labels.append(label)
        self.sizes.append(size)


@dataclass(frozen=True, slots=True)
class PictureFolder:
    """A folder whose sub-folders are classes, whatever lies deeper in them."""

    root: Path

    def listing(self) -> Listing:
        left_out: dict[str, str] = {}
        found: dict[str, list[tuple[str, int]]] = {}
        for entry in sorted(self.root.iterdir()):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                left_out[_shown(entry.name)] = (
                    "lies beside the folders of the classes, so in no class"
                    if _is_picture(entry.name)
                    else _NO_PICTURE
                )
            elif pictures := sorted(self._pictures_below(entry, left_out)):
                found[entry.name] = pictures
            else:
                left_out[_shown(entry.name)] = "a folder without pictures is no class"
        listing = Listing(list(found), left_out=left_out)
        for label, pictures in enumerate(found.values()):
            for file, size in pictures:
                listing.add(file, label, size)
        return listing

    def _pictures_below(self, folder: Path, left_out: dict[str, str]) -> Iterator[tuple[str, int]]:
        def unreadable(error: OSError) -> None:
            left_out[_shown(str(error.filename))] = error.strerror or "cannot be read"

        for parent, folders, names in os.walk(folder, onerror=unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(parent, name)
                file = path.relative_to(self.root).as_posix()
                if name.startswith("."):
                    continue
                if not _is_picture(name):
                    left_out[_shown(file)] = _NO_PICTURE
                elif _shown(file) != file:
                    left_out[_shown(file)] = "its name is not Unicode; rename it"
                else:
                    yield file, _size(path)

    def source(self, file: str) -> Path:
        return self.root / file


@dataclass(frozen=True, slots=True)
class PictureTable:
    """A folder and a metadata file, JSONL or CSV, that gives each picture's file (in the folder) and label (a name or a number)."""

    root: Path
    metadata: Path

    def listing(self) -> Listing:
        rows = list(self._rows())
        if not rows:
            raise PicturesError(self.metadata, "no pictures in it.")
        names = sorted({label for _, label in rows}, key=_natural)
        ids = {name: i for i, name in enumerate(names)}
        listing = Listing(names)
        for file, label in sorted(rows):
            listing.add(file, ids[label], _size(self.root / file))
        return listing

    def _rows(self) -> Iterator[tuple[str, str]]:
        for where, row in self._records():
            file = next((row[name] for name in _FILE_COLUMNS if row.get(name)), None)
            label = row.get(_LABEL_COLUMN)
            if (
                not isinstance(file, str)
                or isinstance(label, (bool, float, list, dict))
                or label in (None, "")
            ):
                raise PicturesError(
                    self.metadata,
                    f"{where}: expected a file and a label, found {json.dumps(row, ensure_ascii=False)[:200]}.",
                )
            yield Path(file).as_posix(), str(label).strip()

    def _records(self) -> Iterator[tuple[str, dict[str, Any]]]:
        with self.metadata.open(encoding="utf-8-sig", newline="") as file:
            if self.metadata.suffix.lower() == ".csv":
                reader = csv.DictReader(file)
                yield from ((f"line {reader.line_num}", row) for row in reader)
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        row = json.loads(line)
                    except json.JSONDecodeError:
                        row = None
                    if not isinstance(row, dict):
                        raise PicturesError(
                            self.metadata,
                            f'line {number}: not a JSON object such as {{"file": "a.jpg", "label": "cat"}}.',
                        )
                    yield f"line {number}", row

    def source(self, file: str) -> Path:
        return self.root / file


@dataclass(frozen=True, slots=True)
class PictureDataset:
    """A folder that ``datasets`` saved (``save_to_disk``), with one column of images and one of labels. A picture's name is its row."""

    root: Path

    def listing(self) -> Listing:
        table, _image, label = _open_dataset(self.root)
        values = table.with_format(None)[label][:]
        feature = table.features[label]
        if isinstance(feature, ClassLabel):
            names, labels = list(feature.names), values
        else:
            names = sorted({str(value) for value in values}, key=_natural)
            ids = {name: i for i, name in enumerate(names)}
            labels = [ids[str(value)] for value in values]
        state = json.loads((self.root / "state.json").read_text(encoding="utf-8"))
        listing = Listing(names, fingerprint=str(state.get("_fingerprint", "")))
        for row, value in enumerate(labels):
            if value is None or value < 0:  # how ClassLabel writes an unknown class
                listing.left_out[f"row {row}"] = "has no label"
            else:
                listing.add(str(row), value, -1)
        return listing

    def source(self, file: str) -> Path | IO[bytes]:
        table, image, _ = _open_dataset(self.root)
        value = table[int(file)][image]
        if value["bytes"] is None:
            return Path(value["path"])
        return io.BytesIO(value["bytes"])


Pictures = PictureFolder | PictureTable | PictureDataset


def open_pictures(root: Path, metadata: Path | None) -> Pictures:
    """Raises ``PicturesError`` on what is no such folder or file."""
    if not root.is_dir():
        raise PicturesError(
            root,
            "no such folder of pictures."
            if not root.exists()
            else "a file; expected a folder of pictures.",
        )
    if metadata is not None:
        if not metadata.is_file():
            raise PicturesError(metadata, "no such metadata file.")
        if metadata.suffix.lower() not in (".jsonl", ".csv"):
            raise PicturesError(metadata, "a metadata file must be .jsonl or .csv.")
        return PictureTable(root, metadata)
    if (root / "dataset_dict.json").is_file():
        splits = json.loads((root / "dataset_dict.json").read_text(encoding="utf-8")).get(
            "splits", []
        )
        raise PicturesError(
            root,
            f"several data sets. Name one of them: {', '.join(str(root / split) for split in splits)}.",
        )
    if (root / "dataset_info.json").is_file() and (root / "state.json").is_file():
        return PictureDataset(root)
    return PictureFolder(root)


@lru_cache(maxsize=1)
def _open_dataset(root: Path) -> tuple[Dataset, str, str]:
    """The data set with its pictures undecoded, and the names of its columns of images and of labels."""
    table = load_from_disk(str(root))
    assert isinstance(table, Dataset)
    images = [name for name, feature in table.features.items() if isinstance(feature, Image)]
    labels = [
        name for name, feature in table.features.items() if isinstance(feature, ClassLabel)
    ] or [name for name in table.column_names if name == _LABEL_COLUMN]
    if len(images) != 1 or len(labels) != 1:
        found = ", ".join(
            f"{name} ({type(feature).__name__})" for name, feature in table.features.items()
        )
        raise PicturesError(
            root,
            f'expected one column of images, and one ClassLabel or one called "{_LABEL_COLUMN}"; its columns are {found}.',
        )
    return (
        table.cast_column(images[0], Image(decode=False)).select_columns([images[0], labels[0]]),
        images[0],
        labels[0],
    )


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _shown(name: str) -> str:
    """The name, with bytes that are no text written out."""
    return name.encode("utf-8", errors="backslashreplace").decode()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reported when it is read
        return -1


def _natural(name: str) -> tuple[bool, int, str]:
    """Numbers by value, before words."""
    return (False, int(name), "") if name.isdecimal() and name.isascii() else (True, 0, name)

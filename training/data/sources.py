"""Where the images of a latent set come from: which there are, of which class, and their bytes."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from .decode import SUFFIXES

if TYPE_CHECKING:
    from datasets import Dataset

T = TypeVar("T")

_FILE_COLUMNS = ("file", "file_name")
_LABEL_COLUMN = "label"
_NO_IMAGE = "not an image by its suffix"


def evenly(items: Sequence[T], count: int) -> list[T]:
    """``count`` of ``items``, evenly spread; all of them where there are no more."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


class SourceError(ValueError):
    """Images that cannot be listed; the message says where, what was found, and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


@dataclass(slots=True)
class Listing:
    """Images in a fixed order, the same on every machine."""

    class_names: list[str]
    files: list[str] = field(default_factory=list)
    class_ids: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes per file, by which a replaced image is noticed; -1 where unknown."""
    left_out: dict[str, str] = field(default_factory=dict)
    """The reason for each file or folder that is not in the listing."""
    fingerprint: str = ""
    """What identifies the contents of a folder that ``datasets`` saved."""

    def add(self, file: str, class_id: int, size: int) -> None:
        self.files.append(file)
        self.class_ids.append(class_id)
        self.sizes.append(size)


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """A folder whose sub-folders are classes, with images at any depth in them."""

    root: Path

    def listing(self) -> Listing:
        left_out: dict[str, str] = {}
        found: dict[str, list[tuple[str, int]]] = {}
        for entry in sorted(self.root.iterdir()):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                left_out[_printable(entry.name)] = (
                    "not in a folder of a class" if _is_image(entry.name) else _NO_IMAGE
                )
            elif images := sorted(self._images_below(entry, left_out)):
                found[entry.name] = images
            else:
                left_out[_printable(entry.name)] = "a folder without images is no class"
        listing = Listing(list(found), left_out=left_out)
        for class_id, images in enumerate(found.values()):
            for file, size in images:
                listing.add(file, class_id, size)
        return listing

    def _images_below(self, folder: Path, left_out: dict[str, str]) -> Iterator[tuple[str, int]]:
        def unreadable(error: OSError) -> None:
            left_out[_printable(str(error.filename))] = error.strerror or "cannot be read"

        for parent, folders, names in os.walk(folder, onerror=unreadable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(parent, name)
                file = path.relative_to(self.root).as_posix()
                if name.startswith("."):
                    continue
                if not _is_image(name):
                    left_out[_printable(file)] = _NO_IMAGE
                elif _printable(file) != file:
                    left_out[_printable(file)] = "its name is not Unicode; rename it"
                else:
                    yield file, _size(path)

    def source(self, file: str) -> Path:
        return self.root / file


@dataclass(frozen=True, slots=True)
class ImageTable:
    """A folder, and a JSONL or CSV file with the file and the label of each image in it.

    A label is a name or a whole number.
    """

    root: Path
    metadata: Path

    def listing(self) -> Listing:
        """Raises ``SourceError`` with the line that cannot be used."""
        rows = list(self._rows())
        if not rows:
            raise SourceError(self.metadata, "no images in it.")
        names = sorted({label for _, label in rows}, key=_natural)
        ids = {name: i for i, name in enumerate(names)}
        listing = Listing(names)
        for file, label in sorted(rows):
            listing.add(file, ids[label], _size(self.root / file))
        return listing

    def _rows(self) -> Iterator[tuple[str, str]]:
        for line, row in self._records():
            file = next((row[name] for name in _FILE_COLUMNS if row.get(name)), None)
            label = row.get(_LABEL_COLUMN)
            is_label = isinstance(label, (str, int)) and not isinstance(label, bool) and label != ""
            if not isinstance(file, str) or not is_label:
                found = json.dumps(row, ensure_ascii=False)[:200]
                raise SourceError(
                    self.metadata, f"line {line}: expected a file and a label, found {found}."
                )
            yield Path(file).as_posix(), str(label).strip()

    def _records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The number of each line and what it says."""
        with self.metadata.open(encoding="utf-8-sig", newline="") as file:
            if self.metadata.suffix.lower() == ".csv":
                reader = csv.DictReader(file)
                yield from ((reader.line_num, row) for row in reader)
                return
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, self._record(number, line)

    def _record(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            example = '{"file": "a.jpg", "label": "cat"}'
            raise SourceError(self.metadata, f"line {number}: not a JSON object such as {example}.")
        return row

    def source(self, file: str) -> Path:
        return self.root / file


@dataclass(frozen=True, slots=True)
class SavedDataset:
    """A folder that ``datasets`` saved (``save_to_disk``): a column of images and one of labels.

    An image is named by the number of its row.
    """

    root: Path

    def listing(self) -> Listing:
        """Raises ``SourceError`` for other columns, and where ``datasets`` is not installed."""
        table, _, label = _open_saved(self.root)
        values = table.with_format(None)[label][:]
        names = getattr(table.features[label], "names", None)  # of a ClassLabel
        if names is None:
            names = sorted({str(value) for value in values}, key=_natural)
            ids = {name: i for i, name in enumerate(names)}
            values = [ids[str(value)] for value in values]
        # A data set's fingerprint has no public name but this one, in the file that holds it.
        state = json.loads((self.root / "state.json").read_text(encoding="utf-8"))
        listing = Listing(list(names), fingerprint=str(state.get("_fingerprint", "")))
        for row, class_id in enumerate(values):
            if class_id is None or class_id < 0:  # how ClassLabel stores an unknown class
                listing.left_out[f"row {row}"] = "has no label"
            else:
                listing.add(str(row), class_id, -1)
        return listing

    def source(self, file: str) -> Path | IO[bytes]:
        table, image, _ = _open_saved(self.root)
        value = table[int(file)][image]
        return Path(value["path"]) if value["bytes"] is None else io.BytesIO(value["bytes"])


ImageSource = ImageFolder | ImageTable | SavedDataset


def open_images(root: Path, metadata: Path | None) -> ImageSource:
    """The images of a folder, by a metadata file if there is one.

    Raises ``SourceError`` where a folder or file is missing or of another kind.
    """
    if not root.is_dir():
        reason = "a file; expected a folder of images." if root.exists() else "no such folder."
        raise SourceError(root, reason)
    if metadata is not None:
        if not metadata.is_file():
            raise SourceError(metadata, "no such metadata file.")
        if metadata.suffix.lower() not in (".jsonl", ".csv"):
            raise SourceError(metadata, "a metadata file must be .jsonl or .csv.")
        return ImageTable(root, metadata)
    if (root / "dataset_dict.json").is_file():
        content = json.loads((root / "dataset_dict.json").read_text(encoding="utf-8"))
        splits = ", ".join(str(root / split) for split in content.get("splits", []))
        raise SourceError(root, f"several data sets. Name one of them: {splits}.")
    if (root / "dataset_info.json").is_file() and (root / "state.json").is_file():
        return SavedDataset(root)
    return ImageFolder(root)


@lru_cache(maxsize=1)
def _open_saved(root: Path) -> tuple[Dataset, str, str]:
    """The data set with its images undecoded, and the names of its columns of images and labels."""
    try:
        from datasets import ClassLabel, Dataset, Image, load_from_disk
    except ImportError:
        raise SourceError(
            root,
            "saved by `datasets`, which is not installed: python -m pip install datasets",
        ) from None
    table = load_from_disk(str(root))
    assert isinstance(table, Dataset)
    features = table.features
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    classes = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    labels = classes or [name for name in features if name == _LABEL_COLUMN]
    if len(images) != 1 or len(labels) != 1:
        found = ", ".join(f"{name} ({type(f).__name__})" for name, f in features.items())
        raise SourceError(
            root,
            "expected one column of images, and one ClassLabel or one called "
            f'"{_LABEL_COLUMN}"; its columns are {found}.',
        )
    columns = table.select_columns([images[0], labels[0]])
    return columns.cast_column(images[0], Image(decode=False)), images[0], labels[0]


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _printable(name: str) -> str:
    """The name, with bytes that are not text written as escapes."""
    return name.encode("utf-8", errors="backslashreplace").decode()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # reported when the file is read
        return -1


def _natural(name: str) -> tuple[bool, int, str]:
    """A sort key: numbers by value, then words."""
    return (False, int(name), "") if name.isdecimal() and name.isascii() else (True, 0, name)

"""A folder that Hugging Face ``datasets`` saved."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ...whole_files import read_json
from ..decode import DecodeError
from .class_names import class_name, look_alikes, natural_order
from .listing import NAMED, Listing, SourceError, some
from .table_text import label_column

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, slots=True)
class SavedDataset:
    """A folder that ``datasets`` saved (``save_to_disk``): a column of images and one of labels.

    An image is named by the number of its row.
    """

    root: Path

    def listing(self) -> Listing:
        """Raises ``SourceError`` for other columns, and where ``datasets`` is not installed."""
        table, image, label = _open_saved(self.root)
        values = table.with_format(None)[label][:]
        stored_names = getattr(table.features[label], "names", None)  # of a ClassLabel
        if stored_names is None:
            labels = [_label(value) for value in values]
            names = sorted({label for label in labels if label is not None}, key=natural_order)
            ids = {name: i for i, name in enumerate(names)}
            class_ids = [-1 if label is None else ids[label] for label in labels]
        else:
            names = list(stored_names)
            class_ids = [-1 if value is None else value for value in values]
        # A data set's fingerprint has no public name but this one, in the file that holds it.
        state = read_json(self.root / "state.json")
        listing = Listing(names, fingerprint=str(state.get("_fingerprint", "")))
        left_out: dict[str, list[int]] = {}
        for row, (class_id, has_image) in enumerate(
            zip(class_ids, _have_images(table, image), strict=True)
        ):
            if not has_image:
                left_out.setdefault("has no image", []).append(row)
            elif class_id < 0:  # how ClassLabel stores an unknown class
                left_out.setdefault("has no label", []).append(row)
            else:
                listing.add(str(row), class_id, -1, -1)
        listing.left_out = _left_out(left_out)
        listing.problems += look_alikes(names)
        if not listing.files:
            listing.problems.append(f"{self.root}: none of its rows has an image and a label.")
        return listing

    def source(self, file: str) -> Path | IO[bytes]:
        """Raises ``DecodeError`` for a row without an image."""
        table, image, _ = _open_saved(self.root)
        value = table[int(file)][image]
        if value is None or (value["bytes"] is None and not value["path"]):
            raise DecodeError("the row has no image")
        return Path(value["path"]) if value["bytes"] is None else io.BytesIO(value["bytes"])


def _label(value: Any) -> str | None:
    """The name of a class; None for what is neither a name nor a number from 0 on."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        return class_name(value) or None
    return str(value) if isinstance(value, int) and value >= 0 else None


def _have_images(table: Dataset, image: str) -> Iterator[bool]:
    """Whether each row has an image, without reading it."""
    for chunk in table.data.column(image).chunks:
        present = [chunk.field(name).is_valid().to_numpy(False) for name in ("bytes", "path")]
        yield from chunk.is_valid().to_numpy(False) & (present[0] | present[1])


def _left_out(rows: dict[str, list[int]]) -> dict[str, str]:
    """A reason per row, or one for many rows; ``rows`` are by reason."""
    reasons: dict[str, str] = {}
    for reason, numbers in rows.items():
        names = [f"row {number}" for number in numbers]
        if len(names) > NAMED:
            reasons[some(names)] = f"{len(names):,} rows: {reason}"
        else:
            reasons |= dict.fromkeys(names, reason)
    return reasons


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
    named = label_column(list(features))
    labels = classes or ([named] if named else [])
    if len(images) != 1 or len(labels) != 1:
        found = ", ".join(f"{name} ({type(f).__name__})" for name, f in features.items())
        raise SourceError(
            root,
            "expected one column of images, and one ClassLabel or one called "
            f'"label"; its columns are {found}. Remove the others with remove_columns.',
        )
    columns = table.select_columns([images[0], labels[0]])
    return columns.cast_column(images[0], Image(decode=False)), images[0], labels[0]

"""The images of a latent set: their files, their classes, and how to open them."""

from __future__ import annotations

from pathlib import Path

from ...whole_files import read_json
from .folders import ImageFolder, UnsortedFolder
from .listing import Listing, SourceError, evenly
from .saved_sets import SavedDataset
from .table_text import TABLE_SUFFIXES
from .tables import ImageTable

__all__ = [
    "ImageFolder",
    "ImageSource",
    "ImageTable",
    "Listing",
    "SavedDataset",
    "SourceError",
    "UnsortedFolder",
    "evenly",
    "open_images",
    "open_unsorted",
]

ImageSource = ImageFolder | UnsortedFolder | ImageTable | SavedDataset


def open_images(root: Path, metadata: Path | None) -> ImageSource:
    """The images of a folder, by a metadata file if there is one.

    Raises ``SourceError`` where a folder or file is missing or of another kind.
    """
    _check_folder(root)
    if metadata is not None:
        if not metadata.is_file():
            raise SourceError(metadata, "no such metadata file.")
        if metadata.suffix.lower() not in TABLE_SUFFIXES:
            kinds = "a spreadsheet" if metadata.suffix.lower() in _SPREADSHEETS else "another file"
            raise SourceError(
                metadata,
                f"{kinds}; a metadata file must be .jsonl, .json, .csv or .tsv. Spreadsheet "
                'programs save it as "CSV UTF-8".',
            )
        return ImageTable(root, metadata)
    return _saved_set(root) or ImageFolder(root)


def open_unsorted(root: Path, option: str) -> ImageSource:
    """All images of a folder, where classes do not matter; ``option`` is how the user names it.

    Raises ``SourceError`` where the folder is missing or of another kind.
    """
    _check_folder(root)
    return _saved_set(root) or UnsortedFolder(root, option)


_SPREADSHEETS = frozenset([".xlsx", ".xls", ".xlsm", ".ods", ".numbers"])


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        reason = "a file; expected a folder of images." if root.exists() else "no such folder."
        raise SourceError(root, reason)


def _saved_set(root: Path) -> SavedDataset | None:
    if (root / "dataset_dict.json").is_file():
        content = read_json(root / "dataset_dict.json")
        splits = ", ".join(str(root / split) for split in content.get("splits", []))
        raise SourceError(root, f"several data sets. Name one of them: {splits}.")
    is_saved = (root / "dataset_info.json").is_file() and (root / "state.json").is_file()
    return SavedDataset(root) if is_saved else None

"""A folder whose sub-folders are classes, or a folder of images without classes."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from .class_names import class_name, look_alikes, natural_order
from .levels import level_problem, split_problem
from .listing import Listing, counted, printable, some
from .walk import ImageWalk

_TABLES = tuple(
    f"{name}{suffix}"
    for name in ("metadata", "labels", "train", "annotations")
    for suffix in (".jsonl", ".csv", ".tsv", ".json")
)
"""Where people keep the labels of a folder of images."""


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """A folder whose sub-folders are classes, with images at any depth in them."""

    root: Path

    def listing(self) -> Listing:
        walk = ImageWalk(self.root)
        by_folder: dict[str, list[str]] = {}
        for file in sorted(walk.images):
            folder, slash, _ = file.partition("/")
            if slash:
                by_folder.setdefault(folder, []).append(file)
            else:
                walk.left_out.add(file, "not in a folder of a class")
        for folder in walk.folders - by_folder.keys():
            walk.left_out.add_folder(folder, "a folder without images is no class")
        classes: dict[str, list[str]] = {}
        for folder in sorted(by_folder, key=natural_order):
            classes.setdefault(class_name(folder), []).append(folder)
        listing = Listing(
            list(classes), folders=walk.real_folders, left_out=walk.left_out.reasons()
        )
        for class_id, folders in enumerate(classes.values()):
            for folder in folders:
                for file in by_folder[folder]:
                    listing.add(file, class_id, *walk.images[file])
        listing.notes += _merged(classes)
        level = level_problem(str(self.root), listing.files, "--images")
        listing.problems += [level] if level else []
        listing.problems += look_alikes(classes)
        listing.problems += _lost(walk, by_folder.keys())
        if not listing.files and not listing.problems:
            listing.problems.append(self._nothing(walk))
        return listing

    def _nothing(self, walk: ImageWalk) -> str:
        if walk.images:
            tables = [f"{self.root}/{name}" for name in _TABLES if (self.root / name).is_file()]
            table = f"--metadata {tables[0]}" if tables else "a --metadata file"
            return (
                f"{self.root}: its {counted(len(walk.images), 'image')} lie in no folder of a "
                f"class. Put them into a sub-folder for each class, or name {table}. If they are "
                "all of one class, name the folder around it."
            )
        if count := walk.unusable[""]:
            reason = walk.unusable_reasons[""]
            files = counted(count, "file")
            return f"{self.root}: no image that can be used ({files}): {reason}."
        return (
            f"{self.root}: no images. Put them into a sub-folder for each class, or name a "
            "--metadata file."
        )

    def source(self, file: str) -> Path:
        return self.root / file


@dataclass(frozen=True, slots=True)
class UnsortedFolder:
    """A folder of images at any depth, whose classes do not matter.

    Its listing has no class names, and the class id 0 for each image.
    """

    root: Path
    option: str
    """By which the user names the folder, for messages."""

    def listing(self) -> Listing:
        walk = ImageWalk(self.root)
        listing = Listing([], left_out=walk.left_out.reasons())
        for file in sorted(walk.images):
            listing.add(file, 0, *walk.images[file])
        problem = split_problem(str(self.root), listing.files, self.option)
        listing.problems += [problem] if problem else []
        if not listing.files:
            unusable = "".join(f" {file}: {why}." for file, why in _first(listing.left_out))
            listing.problems.append(f"{self.root} contains no images to compare with.{unusable}")
        return listing

    def source(self, file: str) -> Path:
        return self.root / file


def _first(left_out: dict[str, str]) -> list[tuple[str, str]]:
    return list(left_out.items())[:1]


def _merged(classes: dict[str, list[str]]) -> Iterator[str]:
    for name, folders in classes.items():
        if len(folders) > 1:
            written = " and ".join(ascii(folder) for folder in folders)
            yield f'The folders {written} look the same and are one class, "{name}".'


def _lost(walk: ImageWalk, used: Set[str]) -> Iterator[str]:
    """A sentence on the folders of classes none of whose images can be used."""
    lost = sorted(walk.unusable.keys() - used - {""}, key=natural_order)
    reasons: dict[str, list[str]] = {}
    for folder in lost:
        reasons.setdefault(walk.unusable_reasons[folder], []).append(folder)
    for reason, folders in reasons.items():
        files = counted(sum(walk.unusable[folder] for folder in folders), "file")
        names = some([printable(folder) for folder in folders])
        which = "The class" if len(folders) == 1 else f"The {len(folders)} classes"
        has = "has" if len(folders) == 1 else "have"
        yield f"{which} {names} {has} no image that can be used ({files}): {reason}."

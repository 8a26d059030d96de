"""What a training set looks like, from the first bytes of its files: nothing is decoded."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from comfyui_fitv2.resolution import TOKEN_PIXELS

from ..data.decode import trained_size
from ..data.image_facts import probe
from ..data.sources import ImageSource, Listing
from ..processes import exit_with_parent

_MAX_WORKERS = 8
_PER_TASK = 256
_ALONE = 512
"""Up to this number of files, starting processes takes longer than reading."""
_FEW_TOKENS = 4
_LITTLE = 4
"""An image is small where a token budget would hold this many times its tokens."""
_BENT = 1.25
"""A ratio of width to height that changes by more than this factor is worth a word."""


@dataclass(slots=True)
class Check:
    """Images and what is known of them; arrays are by image."""

    images: Path
    image_size: int
    enlarge: bool
    class_names: list[str]
    files: list[str]
    class_ids: np.ndarray
    sizes: np.ndarray
    """(n, 2): width and height in pixels; 0 for a file that cannot be used."""
    bytes: np.ndarray
    trained: np.ndarray
    """(n, 2): width and height in pixels at which an image is trained on."""
    cropped: np.ndarray
    """Whether the middle square is encoded too."""
    kinds: Counter[str]
    """Number of files per format and mode, such as "JPEG RGB"."""
    animated: list[str]
    """Files with several frames or pages, of which the first is used."""
    unusable: dict[str, str]
    """The reason for each file that cannot be used."""
    left_out: dict[str, str]
    """The reason for each file or folder that is skipped."""
    listing_notes: list[str]
    listing_problems: list[str]
    encoded_classes: frozenset[int] = frozenset()
    """Ids of classes with images that were not looked at, because they are encoded already."""
    duplicates: list[list[int]] = field(default_factory=list)
    """Groups of images with the same bytes; empty where they were not searched for."""

    @property
    def usable(self) -> np.ndarray:
        return self.trained[:, 0] > 0

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of the resized version; 0 for a file that cannot be used."""
        return (self.trained // TOKEN_PIXELS).prod(axis=1)

    @property
    def budget(self) -> int:
        """Tokens of a square image of the image size."""
        return (self.image_size // TOKEN_PIXELS) ** 2

    @property
    def small(self) -> np.ndarray:
        """Whether an image has a quarter of the budget's tokens or fewer, for want of pixels."""
        area = self.sizes.prod(axis=1)
        return self.usable & (area * _LITTLE <= self.image_size**2) & (not self.enlarge)

    @property
    def tiny(self) -> np.ndarray:
        """Whether a side is shorter than a token, so that the image is enlarged."""
        return self.usable & (self.sizes.min(axis=1) < TOKEN_PIXELS)

    def bent(self) -> list[int]:
        """Images of which the ratio of the sides changes noticeably, by index, the worst first."""
        rows = np.flatnonzero(self.usable)
        before, after = (np.log(s[rows, 0] / s[rows, 1]) for s in (self.sizes, self.trained))
        factors = np.exp(np.abs(before - after))
        order = np.argsort(-factors, kind="stable")
        return rows[order[: int((factors > _BENT).sum())]].tolist()

    def per_class(self) -> list[tuple[str, int, int]]:
        """Name, usable and unusable images of each class, in the order of their ids."""
        count = len(self.class_names)
        used = np.bincount(self.class_ids[self.usable], minlength=count)
        lost = np.bincount(self.class_ids[~self.usable], minlength=count)
        return list(zip(self.class_names, used.tolist(), lost.tolist(), strict=True))

    def contradictory(self) -> list[list[int]]:
        """Duplicates that are in several classes."""
        return [group for group in self.duplicates if len({*self.class_ids[group].tolist()}) > 1]

    @property
    def problems(self) -> list[str]:
        """Full sentences, each a thing that is surely a mistake."""
        found = list(self.listing_problems)
        for label, (name, used, lost) in enumerate(self.per_class()):
            if lost and not used and label not in self.encoded_classes:
                first = self.files[int(np.flatnonzero(self.class_ids == label)[0])]
                which = (
                    f"The only image of the class {name!r} cannot be used"
                    if lost == 1
                    else f"None of the {lost:,} images of the class {name!r} can be used"
                )
                found.append(f"{which} ({first}: {self.unusable[first]}).")
        tokens = self.tokens[self.usable]
        is_whole = not self.encoded_classes
        if is_whole and len(tokens) and tokens.max() <= _FEW_TOKENS <= self.budget / _LITTLE:
            found.append(
                f"All images are so small that they become at most {int(tokens.max())} of the "
                f"{self.budget} tokens that an image of this --image-size has. Add --enlarge."
            )
        return found


def check_images(
    source: ImageSource,
    listing: Listing,
    rows: Sequence[int],
    image_size: int,
    enlarge: bool,
    workers: int | None,
) -> Check:
    """Look at these ``rows`` of the listing, in several processes where there are many."""
    files = [listing.files[row] for row in rows]
    count = len(files)
    sizes, trained = np.zeros((count, 2), np.int64), np.zeros((count, 2), np.int64)
    lengths = np.array([listing.sizes[row] for row in rows], np.int64)
    kinds: Counter[str] = Counter()
    animated: list[str] = []
    unusable: dict[str, str] = {}
    facts = in_processes(_Probed(source, files), count, workers, "checking")
    for row, (found, length) in enumerate(facts):
        lengths[row] = length if lengths[row] < 0 else lengths[row]
        sizes[row] = found.width, found.height
        if found.format:
            kinds[f"{found.format} {found.mode}"] += 1
        if found.frames > 1:
            animated.append(files[row])
        if found.reason is None:
            size = trained_size(found.width, found.height, image_size, enlarge)
            trained[row] = size.width, size.height
        else:
            unusable[files[row]] = found.reason
    shorter = sizes.min(axis=1) if count else sizes[:, 0]
    return Check(
        images=source.root,
        image_size=image_size,
        enlarge=enlarge,
        class_names=list(listing.class_names),
        files=files,
        class_ids=np.array([listing.class_ids[row] for row in rows], np.int64),
        sizes=sizes,
        bytes=lengths,
        trained=trained,
        cropped=(trained[:, 0] > 0) & (shorter > image_size) & (sizes[:, 0] != sizes[:, 1]),
        kinds=kinds,
        animated=animated,
        unusable=unusable,
        left_out=dict(listing.left_out),
        listing_notes=list(listing.notes),
        listing_problems=list(listing.problems),
        encoded_classes=frozenset(np.delete(np.array(listing.class_ids), rows).tolist()),
    )


def in_processes(
    results: Dataset[list[Any]], count: int, workers: int | None, what: str
) -> Iterator[Any]:
    """The ``count`` results of all tasks of a ``ByTask``, in order, with a progress bar."""
    if workers is None:
        workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    loader = DataLoader(
        results,
        batch_size=None,
        sampler=range(-(-count // _PER_TASK)),
        num_workers=workers if count > _ALONE else 0,
        collate_fn=_unchanged,
        worker_init_fn=exit_with_parent,
        prefetch_factor=4 if count > _ALONE and workers else None,
    )
    with tqdm(total=count, desc=what, unit="image", disable=count <= _ALONE) as progress:
        for part in loader:
            yield from part
            progress.update(len(part))


class ByTask(Dataset[list[Any]], ABC):
    """Something found out about each file, many files per task of a process."""

    def __init__(self, source: ImageSource, files: Sequence[str]) -> None:
        self.source, self.files = source, files

    def __getitem__(self, task: int) -> list[Any]:
        start = task * _PER_TASK
        return [self.find(file) for file in self.files[start : start + _PER_TASK]]

    @abstractmethod
    def find(self, file: str) -> Any:
        """What is found out about a file."""


class _Probed(ByTask):
    """The facts of an image, and the size of its file in bytes where only the source knows it."""

    def find(self, file: str) -> Any:
        opened = self.source.source(file)
        length = -1
        if isinstance(opened, io.BytesIO):
            length = len(opened.getbuffer())
        return probe(opened), length


def _unchanged(item: Any) -> Any:
    return item

"""A latent set follows its images: encoded images are kept, and only the others are encoded.

An image counts as the same while the size and the time of change of its file are the same. If only
the time differs, the file is read and compared with the digest in its shard. An image that was
moved is recognised by that digest, too. Shards are never edited: one with an image that is gone, or
that has another class now, is copied to a new one without it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from ..data.shards import image_digest
from ..data.sources import ImageSource, Listing
from .changes import Changes
from .plan import Plan, PlannedImage, later_plan
from .set_folder import SetFolder

_READERS = 8


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where an image is encoded already, or known to be unusable."""

    shard: int
    file: str
    """Its name in the shard."""
    digest: bytes | None = None
    failed: bool = False


def changed_plan(
    output: SetFolder,
    before: Plan,
    source: ImageSource,
    listing: Listing,
    published: Sequence[str],
) -> tuple[Plan, Changes] | None:
    """The plan for the images that there are now, and what has changed; None where nothing has.

    ``published`` are the class names of the complete set in ``output``, if there is one.
    """
    names, labels = _follow_classes(before.class_names, listing.class_names)
    if _is_unchanged(before, listing, labels):
        return None
    now = [
        PlannedImage(file, labels[class_id], size, time, 0)
        for file, class_id, size, time in zip(
            listing.files, listing.class_ids, listing.sizes, listing.modified, strict=True
        )
    ]
    may_differ = before.fingerprint != listing.fingerprint
    old = {image.file: image for image in before.entries()}
    encoded = _find_encoded(output, before, old.values())
    changes = Changes()
    origins = _find_origins(source, old, now, encoded, may_differ, changes)
    images = _arrange(output, before, old, now, encoded, origins)
    changes.new_classes = names[len(before.class_names) :]
    emptied = {image.label for image in old.values()} - {image.label for image in now}
    changes.empty_classes = [names[label] for label in sorted(emptied)]
    return later_plan(before, listing, names, images, published or before.published), changes


def images_differ(before: Plan, listing: Listing) -> bool:
    """Whether the images are others than those of the plan, or have changed."""
    names, labels = _follow_classes(before.class_names, listing.class_names)
    return len(names) > len(before.class_names) or not _is_unchanged(before, listing, labels)


def _is_unchanged(before: Plan, listing: Listing, labels: Sequence[int]) -> bool:
    """Whether a plan still fits the images, whose class ids mean these ``labels`` of the plan.

    Compares columns, because a set may have millions of images and seldom changes."""
    if len(before.images) != len(listing.files) or before.fingerprint != listing.fingerprint:
        return False
    now = {
        "file": pa.array(listing.files, pa.string()),
        "label": np.array(labels)[np.array(listing.class_ids)],
        "bytes": np.array(listing.sizes),
        "modified": np.array(listing.modified),
    }
    old, new = (table.sort_by("file") for table in (before.images, pa.table(now)))
    if not old["file"].equals(new["file"]):
        return False
    same = [old[name].to_numpy() == new[name].to_numpy() for name in ("label", "bytes")]
    if "modified" in old.column_names:  # not in older versions
        times = old["modified"].to_numpy()
        same.append((times == -1) | (times == new["modified"].to_numpy()))
    return bool(np.all(same))


def _follow_classes(before: Sequence[str], now: Sequence[str]) -> tuple[list[str], list[int]]:
    """All class names, new ones last, and the label of each class id of the listing.

    Two classes of one name are told apart by their order.
    """
    places = {key: label for label, key in enumerate(_numbered(before))}
    names, labels = list(before), []
    for key in _numbered(now):
        if key not in places:
            places[key] = len(names)
            names.append(key[0])
        labels.append(places[key])
    return names, labels


def _numbered(names: Iterable[str]) -> list[tuple[str, int]]:
    """Each name with the number of equal names before it.

    Older versions told composed from decomposed Unicode, and kept spaces around a name.
    """
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        key = unicodedata.normalize("NFC", name).strip()
        numbered.append((key, seen[key]))
        seen[key] += 1
    return numbered


def _find_encoded(
    output: SetFolder, before: Plan, old: Iterable[PlannedImage]
) -> dict[str, _Origin]:
    """Where each image of the plan is encoded, by its file in the plan."""
    digests: dict[int, dict[str, bytes | None]] = {}
    failures: dict[int, dict[str, str]] = {}
    encoded = {}
    made = {number for number in before.shards if output.has_shard(number)}
    output.pull_rows(made)
    for image in old:
        whole = image.shard in made
        shard = image.shard if whole else image.source
        file = image.file if whole else image.source_file
        if shard < 0:
            continue
        if shard not in digests:
            rows = output.rows(shard)
            digests[shard], failures[shard] = rows.digests, rows.failures
        if file in digests[shard]:
            encoded[image.file] = _Origin(shard, file, digests[shard][file])
        elif file in failures[shard]:
            encoded[image.file] = _Origin(shard, file, failed=True)
    return encoded


def _find_origins(
    source: ImageSource,
    old: Mapping[str, PlannedImage],
    now: Sequence[PlannedImage],
    encoded: Mapping[str, _Origin],
    may_differ: bool,
    changes: Changes,
) -> dict[str, _Origin]:
    """Where each image that need not be encoded again is now; notes what has changed."""
    files_now = {image.file for image in now}
    gone = {file: origin for file, origin in encoded.items() if file not in files_now}
    by_content: dict[tuple[int, bytes | None], str] = {
        (old[file].size, origin.digest): file for file, origin in gone.items() if origin.digest
    }
    sizes_gone = {size for size, _ in by_content}

    def is_doubtful(new: PlannedImage) -> bool:
        if new.file not in old:
            return new.size in sizes_gone
        origin = encoded.get(new.file)
        return bool(origin and origin.digest) and not _is_known(old[new.file], new, may_differ)

    digests = _read_digests(source, [new.file for new in now if is_doubtful(new)])
    origins: dict[str, _Origin] = {}
    moved: set[str] = set()
    for new in now:
        before, origin = old.get(new.file), encoded.get(new.file)
        if before is None:
            found = by_content.pop((new.size, digests.get(new.file)), None)
            if found is None:
                changes.added.append(new.file)
                continue
            moved.add(found)
            origins[new.file] = gone[found]
            same_class = old[found].label == new.label
            (changes.renamed if same_class else changes.relabelled).append(new.file)
        elif _is_known(before, new, may_differ) or (
            # A file that cannot be read now is taken for the one that was encoded.
            origin and origin.digest and digests.get(new.file, origin.digest) == origin.digest
        ):
            if origin:
                origins[new.file] = origin
            if before.label != new.label:
                changes.relabelled.append(new.file)
        else:
            changes.replaced.append(new.file)
    changes.removed = [file for file in old if file not in files_now and file not in moved]
    return origins


def _is_known(old: PlannedImage, new: PlannedImage, may_differ: bool) -> bool:
    """Whether size and time alone say that the content is the same."""
    if may_differ:
        return False
    if -1 in (old.size, new.size):
        return True
    return old.size == new.size and (
        -1 in (old.modified, new.modified) or old.modified == new.modified
    )


def _read_digests(source: ImageSource, files: Sequence[str]) -> dict[str, bytes]:
    """By file; without those that cannot be read."""

    def digest(file: str) -> bytes | None:
        try:
            return image_digest(source.source(file))
        except OSError:
            return None

    with ThreadPoolExecutor(_READERS) as readers:
        found = tqdm(
            readers.map(digest, files),
            total=len(files),
            desc="comparing",
            unit="image",
            disable=None if len(files) > 1000 else True,
        )
        return {file: value for file, value in zip(files, found, strict=True) if value}


def _arrange(
    output: SetFolder,
    before: Plan,
    old: Mapping[str, PlannedImage],
    now: Sequence[PlannedImage],
    encoded: Mapping[str, _Origin],
    origins: Mapping[str, _Origin],
) -> list[PlannedImage]:
    """All images in the order of their shards: shards that stay, copied ones, and new ones."""
    by_file = {image.file: image for image in now}

    def stays(image: PlannedImage, whole: bool) -> bool:
        """Whether nothing that the shard of a planned image holds of it has to change."""
        new, origin = by_file.get(image.file), encoded.get(image.file)
        if whole and (origin is None or origin.failed):
            return True  # the shard has no example of it
        if new is None or new.label != image.label:
            return False
        if origin is not None:
            return origins.get(image.file) == origin
        return image.size == new.size and image.modified in (-1, new.modified)

    members: dict[int, list[PlannedImage]] = defaultdict(list)
    for image in old.values():
        members[image.shard].append(image)
    arranged: list[PlannedImage] = []
    placed: set[str] = set()
    for number in before.shards:
        whole = output.has_shard(number)
        if not all(stays(image, whole) for image in members[number]):
            continue
        for image in members[number]:
            new, origin = by_file.get(image.file), encoded.get(image.file)
            if new is None or (whole and origin is None) or origins.get(image.file) != origin:
                continue
            placed.add(image.file)
            arranged.append(
                replace(image, label=new.label, size=new.size, modified=new.modified)
                if not whole
                else replace(new, shard=number)
            )
    copies: dict[int, list[PlannedImage]] = defaultdict(list)
    others: list[PlannedImage] = []
    for image in now:
        if image.file in placed:
            continue
        if origin := origins.get(image.file):
            copies[origin.shard].append(
                replace(image, source=origin.shard, source_file=origin.file)
            )
        else:
            others.append(image)
    size, first = before.shard_size, _next_number(output, before)
    groups = [copies[shard] for shard in sorted(copies)]
    groups += [others[start : start + size] for start in range(0, len(others), size)]
    for number, group in enumerate(groups, start=first):
        arranged += [replace(image, shard=number) for image in group]
    return arranged


def _next_number(output: SetFolder, before: Plan) -> int:
    return max([-1, *before.shards, *output.shard_numbers()]) + 1

"""The end of ``prepare``: the report, and the file that declares the set complete."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from comfyui_fitv2.metadata import LatentFormat

from ..data.arrow_set import ArrowLatentSet
from ..data.latent_set import INFO_FILE, LatentSetError, LatentSetInfo, SetChange, data_digest
from ..data.set_files import SetFiles
from ..data.set_index import index_name
from ..data.set_parts import SetParts, finish, read_parts
from ..data.sources.listing import counted, listed
from ..data.vae import TINY, VAE, fingerprint
from .options import PrepareOptions
from .plan import Plan
from .preview_colours import PreviewColoursError, fit_preview_colours
from .reconstruction import Reconstruction
from .set_folder import SetFolder

REPORT_FILE = "report.json"
_LISTED = 5
_CLASSES_LISTED = 12


def complete_set(output: SetFolder, plan: Plan) -> SetParts | None:
    """The whole set of this plan; None where something is missing."""
    parts = complete_parts(output)
    is_whole = parts and list(parts.shards) == plan.shards
    return parts if is_whole and all(map(output.has_shard, plan.shards)) else None


def complete_parts(output: SetFolder) -> SetParts | None:
    """The complete set in the folder, be it the one of the present plan or that before."""
    has_info = (output.folder / INFO_FILE).is_file()
    return read_parts(SetFiles(output.folder)) if has_info else None


def finish_set(
    options: PrepareOptions,
    output: SetFolder,
    plan: Plan,
    vae: VAE,
    reconstruction: Reconstruction | None,
) -> None:
    """Write the report, declare the set complete, and remove shards that are no part of it.

    Raises ``ValueError`` where no image could be used.
    """
    output.pull_rows(plan.shards)
    output.require_sent(plan.shards)
    failures = _failures(output, plan)
    used = _used_per_label(output, plan)
    planned = Counter(plan.labels.tolist())
    before = complete_parts(output)
    classes = _Classes.of(plan, used, planned)
    report: dict[str, Any] = {
        "images": sum(used.values()),
        "failed": failures,
        "left_out": plan.left_out,
        "classes": {
            name: {"images": used[label], "failed": planned[label] - used[label]}
            for label, name in enumerate(plan.class_names)
        },
        "left_out_classes": classes.left_out,
    }
    if reconstruction:
        report["reconstruction"] = reconstruction.to_dict()
    output.write_json(REPORT_FILE, report)
    for line in (
        *listed(f"could not be used; {output.at(REPORT_FILE)} lists all", failures, _LISTED),
        *listed(f"left out of the classes of {output}", classes.left_out, _LISTED),
    ):
        print(line, file=sys.stderr)
    if not report["images"]:
        raise ValueError(
            f"none of the {len(failures)} images could be used. Remove {output} before you try "
            "again."
        )
    info = LatentSetInfo(
        class_names=classes.names,
        channels=vae.channels,
        image_size=options.image_size,
        # Runs on the set before have stored its format, so it stays.
        latent_format=before.info.latent_format if before else _latent_format(output, plan, vae),
        vae=options.vae if options.vae == TINY else Path(options.vae).name,
        flips=options.flip,
        posterior=vae.posterior,
        fingerprint=fingerprint(vae),
    )
    history = list(before.history) if before else []
    if before and list(before.shards) != plan.shards:
        with suppress(LatentSetError):  # a shard of the set before is lost
            history.append(_change(output, before, plan, classes))
    parts = finish(output.folder, info, plan.shards, classes.class_ids, history)
    if parts.index:
        output.send(index_name(parts.index))
    output.send(INFO_FILE)
    remove_stale(output, parts)
    _say_classes(output, report["images"], classes.names, used, plan)


def remove_stale(output: SetFolder, parts: SetParts) -> None:
    """Remove what is left of earlier states of the set, and of killed processes."""
    output.remove_all_but(parts.shards, index_name(parts.index) if parts.index else "")


@dataclass(frozen=True, slots=True)
class _Classes:
    names: tuple[str, ...]
    """The classes of the set."""
    class_ids: list[int] | None
    """The class id of each label of the plan; None where they are the same."""
    left_out: dict[str, str]
    """Why a class of the plan is not among them."""

    @classmethod
    def of(cls, plan: Plan, used: Mapping[int, int], planned: Mapping[int, int]) -> _Classes:
        """Classes of the set before keep their ids; of the new ones, those with images follow.

        A class that never had an image, which a ``ClassLabel`` may list, is one too.
        """
        names = list(plan.published)
        free = dict(enumerate(plan.class_names))
        class_ids = [-1] * len(plan.class_names)
        for class_id, name in enumerate(plan.published):
            label = next((label for label, other in free.items() if other == name), None)
            if label is not None:
                class_ids[label] = class_id
                del free[label]
        left_out = {}
        for label, name in free.items():
            if planned[label] and not used[label]:
                left_out[name] = f"none of its {counted(planned[label], 'image')} could be used"
            else:
                class_ids[label] = len(names)
                names.append(name)
        same = class_ids == list(range(len(names)))
        return cls(tuple(names), None if same else class_ids, left_out)


def _failures(output: SetFolder, plan: Plan) -> dict[str, str]:
    """Of the images in the plan: one that was replaced or removed may have failed before."""
    failures = {}
    for number in plan.shards:
        if found := output.rows(number).failures:
            rows = plan.shard(number)
            planned = set(plan.files.slice(rows.start, len(rows)).to_pylist())
            failures |= {file: reason for file, reason in found.items() if file in planned}
    return failures


def _used_per_label(output: SetFolder, plan: Plan) -> Counter[int]:
    used: Counter[int] = Counter()
    for number in plan.shards:
        column = output.rows(number).table["label"]
        labels, counts = np.unique(column.to_numpy(), return_counts=True)
        used.update(dict(zip(labels.tolist(), counts.tolist(), strict=True)))
    return used


def _change(output: SetFolder, before: SetParts, plan: Plan, classes: _Classes) -> SetChange:
    """How the set differs from the complete one before, whose shards are still there."""
    old, new = (
        {
            file: (label, digest)
            for number in shards
            for file, label, digest in _rows(output, number)
        }
        for shards in (before.shards, plan.shards)
    )
    old_ids = before.class_ids or range(len(before.info.class_names))
    new_ids = classes.class_ids or range(len(classes.names))
    both = old.keys() & new.keys()
    gone = Counter(digest for file, (_, digest) in old.items() if file not in both and digest)
    come = Counter(digest for file, (_, digest) in new.items() if file not in both and digest)
    moved = sum((gone & come).values())
    relabelled = sum(old_ids[old[file][0]] != new_ids[new[file][0]] for file in both)
    return SetChange(
        before=data_digest(ArrowLatentSet(output.files, before)),
        added=len(new) - len(both) - moved,
        removed=len(old) - len(both) - moved,
        replaced=sum(old[file][1] != new[file][1] for file in both),
        relabelled=relabelled + moved,
        new_classes=classes.names[len(before.info.class_names) :],
    )


def _rows(output: SetFolder, number: int) -> zip[tuple[str, int, bytes | None]]:
    rows = output.rows(number)
    labels, digests = rows.table["label"].to_pylist(), rows.digests
    return zip(digests, labels, digests.values(), strict=True)


def _latent_format(output: SetFolder, plan: Plan, vae: VAE) -> LatentFormat:
    try:
        return fit_preview_colours(output, plan.shards, vae.channels, vae.scale_factor)
    except PreviewColoursError as error:
        print(f"{output} gets no preview colours: {error}", file=sys.stderr)
        return LatentFormat(vae.scale_factor)


def _say_classes(
    output: SetFolder, images: int, names: Sequence[str], used: Mapping[int, int], plan: Plan
) -> None:
    print(f"{output}: {images} images of {len(names)} classes.")
    counts = {plan.class_names[label]: count for label, count in sorted(used.items()) if count}
    if len(counts) <= _CLASSES_LISTED:
        print("  " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
        return
    ordered = sorted(counts.items(), key=lambda item: item[1])
    few, many = (f"{name} {count:,}" for name, count in (ordered[0], ordered[-1]))
    print(f"  from {few} to {many} images per class; {output.at(REPORT_FILE)} lists all")

"""Before anything is encoded: which images there are, what they look like, and the plan."""

from __future__ import annotations

import sys

from ..data.sources import ImageSource, Listing, open_images
from .changed_images import changed_plan, images_differ
from .check import Check, check_images
from .check_text import short_form
from .duplicates import find_duplicates
from .finish import complete_parts, complete_set
from .options import PrepareOptions
from .plan import (
    Plan,
    check_settings,
    first_plan,
    open_plan,
    write_plan,
)
from .remembered import are_unchanged, now, remember
from .set_folder import SetFolder


class ProblemsError(ValueError):
    """Images that look as if there was a mistake; the message says which, and what to do."""


def check_all(options: PrepareOptions) -> Check:
    """Look at all images, also for duplicates. Raises ``ValueError`` where there are none."""
    source = open_images(options.images, options.metadata)
    listing = source.listing()
    _refuse_nothing(options, listing)
    check = check_images(
        source,
        listing,
        range(len(listing.files)),
        options.image_size,
        options.enlarge,
        options.workers,
    )
    check.duplicates = find_duplicates(source, check, options.workers)
    return check


def plan_images(source: ImageSource, output: SetFolder, options: PrepareOptions) -> bool:
    """Write the plan of the latent set, or the next one where the images have changed.

    Returns whether the images were listed: those of an unfinished set are not, where no folder of
    theirs has changed. Raises ``ProblemsError`` where something is surely a mistake, and
    ``OutputFolderError`` where the folder holds a set with other settings.
    """
    output.pull()
    settings = options.settings
    check_settings(output, settings, options.shard_size)
    before, parts = open_plan(output.folder), complete_parts(output)
    begun = parts is not None or bool(output.shard_numbers())
    if before is not None and begun and not options.relist and _is_known(output, before, options):
        return False
    started = now()
    listing = source.listing()
    for line in listing.report(f"left out of {options.images}"):
        print(line, file=sys.stderr)
    _refuse_nothing(options, listing)
    if before is None or not begun:
        plan = first_plan(listing, settings, options.shard_size)
        if before is not None and plan == before:
            remember(output.folder, before, listing.folders, started)
            return True
    else:
        published = parts.info.class_names if parts else ()
        changed = changed_plan(output, before, source, listing, published)
        if changed is None:
            if not complete_set(output, before):
                remember(output.folder, before, listing.folders, started)
            return True
        plan, changes = changed
        if len(changes.removed) * 2 > len(before.images) and not options.ignore_problems:
            raise ProblemsError(
                f"{len(changes.removed):,} of the {len(before.images):,} images in {output} are no "
                f"longer in {options.images}. If it is another folder, name another --output. To "
                "drop them from the set, add --ignore-problems."
            )
        if lines := changes.lines():
            print(f"{output} follows the images: {'; '.join(lines)}.")
    problems = list(listing.problems)
    if to_encode := _left_to_encode(output, plan):
        rows = {file: row for row, file in enumerate(listing.files)}
        check = check_images(
            source,
            listing,
            [rows[file] for file in to_encode],
            options.image_size,
            options.enlarge,
            options.workers,
        )
        print(short_form(check))
        problems = check.problems
    if problems and not options.ignore_problems:
        raise ProblemsError(
            f"{' '.join(problems)} If this is right, add --ignore-problems. A page on the images: "
            "--check."
        )
    write_plan(output, plan)
    remember(output.folder, plan, listing.folders, started)
    return True


def say_if_changed(source: ImageSource, output: SetFolder, plan: Plan) -> None:
    """Look at all images after a run that has not listed them, and say where some have changed."""
    if images_differ(plan, source.listing()):
        print(
            f"Images have changed since {output} was begun: run the same command again, which "
            "follows them.",
            file=sys.stderr,
        )


def _is_known(output: SetFolder, plan: Plan, options: PrepareOptions) -> bool:
    """Whether the plan of an unfinished set still fits its images, as far as folders tell."""
    if complete_set(output, plan) or not are_unchanged(output.folder, plan):
        return False
    print(
        f"{len(plan.images):,} images, as listed before: no folder of {options.images} has changed."
    )
    return True


def _left_to_encode(output: SetFolder, plan: Plan) -> list[str]:
    missing = [
        number
        for number in plan.shards
        if plan.source(number) is None and not output.has_shard(number)
    ]
    return [str(plan.files[row]) for number in missing for row in plan.shard(number)]


def _refuse_nothing(options: PrepareOptions, listing: Listing) -> None:
    if listing.files:
        return
    listing.stop_at_problems()
    raise ValueError(
        f"{options.images}: no images with a class. Put them in a sub-folder for each class, or "
        "name a --metadata file."
    )

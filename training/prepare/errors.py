"""What may go wrong while images are encoded, and what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.shards import shard_path
from ..failures import explained
from .plan import Plan
from .set_folder import SetFolder

_CONNECTION = {
    getattr(errno, name)
    for name in [
        "EIO",
        "ENODEV",
        "ENXIO",
        "ENOTCONN",
        "ESTALE",
        "ETIMEDOUT",
        "EHOSTDOWN",
        "EHOSTUNREACH",
    ]
    if hasattr(errno, name)
}
"""Errors of a drive or a network share, not of one file."""


def is_cut_off(error: Exception, root: Path) -> bool:
    """Whether all images below ``root`` are out of reach, not only the one that raised."""
    if not isinstance(error, OSError) or error.errno is None:
        return False  # Pillow's own errors have no number
    return error.errno in _CONNECTION or not root.is_dir()


@contextmanager
def errors_explained(output: SetFolder, plan: Plan) -> Iterator[None]:
    """Raise ``MachineError``, in one line, where the machine is the reason that encoding failed."""
    with explained(
        "Not even one image fits: close other programs, or name another --device. A smaller "
        "--image-size needs another --output.",
        "Rerun with fewer --workers.",
        lambda: "Finished shards stay; the same command resumes.",
        lambda: f"{_space_needed(output, plan)}Make room there.",
    ):
        yield


def _space_needed(output: SetFolder, plan: Plan) -> str:
    """How much the missing shards need, from those that exist."""
    sizes = {n: shard_path(output.folder, n) for n in plan.shards}
    done = {n: path.stat().st_size for n, path in sizes.items() if path.is_file()}
    images_done = sum(len(plan.shard(number)) for number in done)
    if not images_done:
        return ""
    left = len(plan.images) - images_done
    gib = sum(done.values()) / images_done * left / 2**30
    return f"The {left:,} images that are left need about {max(gib, 0.1):.1f} GiB. "

"""What may go wrong while images are encoded, and what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..data.arrow_set import shard_path
from .plan import Plan

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
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


def is_cut_off(error: Exception, root: Path) -> bool:
    """Whether all images below ``root`` are out of reach, not only the one that raised."""
    if not isinstance(error, OSError) or error.errno is None:
        return False  # Pillow's own errors have no number
    return error.errno in _CONNECTION or not root.is_dir()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the memory of a device, or of the machine, was too small for a tensor."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def errors_explained(output: Path, plan: Plan) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise OSError(
                "not even one image fits in the memory of the device. Close other programs that "
                "use it, or name another --device. A smaller --image-size needs another --output."
            ) from None
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(
            "a process that decodes images was killed, usually because memory ran out. Rerun with "
            "fewer --workers."
        ) from None
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            f"{output}: the disk is full. {_space_needed(output, plan)}Make room and rerun the "
            "same command: finished shards are kept."
        ) from None


def _space_needed(output: Path, plan: Plan) -> str:
    """How much the missing shards need, from those that exist."""
    sizes = {n: shard_path(output, n) for n in plan.shards}
    done = {n: path.stat().st_size for n, path in sizes.items() if path.is_file()}
    images_done = sum(len(plan.shard(number)) for number in done)
    if not images_done:
        return ""
    left = len(plan.images) - images_done
    gib = sum(done.values()) / images_done * left / 2**30
    return f"The {left:,} images that are left need about {max(gib, 0.1):.1f} GiB. "

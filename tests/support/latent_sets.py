"""Small latent sets of random moments, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from training.data.latent_set import PATCH, EncodedPicture, LatentSetInfo, finish, write_shard


def make_latent_set(
    path: Path,
    sizes: Sequence[tuple[int, int]] = ((4, 4), (2, 6), (6, 2)),
    classes: int = 3,
    per_class: int | None = None,
    seed: int = 0,
    *,
    crop: tuple[int, int] | None = None,
    channels: int = 4,
    flips: bool = True,
    posterior: bool = True,
    shard_size: int = 5,
) -> Path:
    """A set of ``per_class`` pictures a class (default: one a size), whose token grids, (rows, columns), go round ``sizes``.

    Every second picture also has a cropped version where ``crop`` gives its grid. Moments are random, the means about the class's own value.
    """
    generator = torch.Generator().manual_seed(seed)

    def version(grid: tuple[int, int], label: int) -> torch.Tensor:
        shape = (1 + flips, 1 + posterior, channels, grid[0] * PATCH, grid[1] * PATCH)
        moments = 0.5 * torch.randn(shape, generator=generator)
        moments[:, 0] += 2 * label / max(classes - 1, 1) - 1
        if posterior:
            moments[:, 1] = 0.1 * moments[:, 1].abs()
        return moments

    count = per_class or len(sizes)
    pictures = [
        EncodedPicture(
            f"class{label}/{i}.png",
            label,
            version(sizes[i % len(sizes)], label),
            version(crop, label) if crop and i % 2 else None,
        )
        for label in range(classes)
        for i in range(count)
    ]
    path.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(pictures), shard_size)
    for number, start in enumerate(starts):
        write_shard(path, number, pictures[start : start + shard_size])
    resolution = 16 * max(max(size) for size in sizes)
    names = tuple(f"class{label}" for label in range(classes))
    finish(
        path,
        LatentSetInfo(
            names, channels, resolution, {"scale_factor": 1.0}, "random", flips, posterior
        ),
        len(starts),
    )
    return path

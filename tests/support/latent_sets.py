"""Small latent sets of random moments, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from comfyui_fitv2.config import PATCH_SIZE
from comfyui_fitv2.metadata import LatentFormat
from training.data.latent_set import LatentSetInfo
from training.data.set_parts import finish
from training.data.shards import EncodedExample, write_shard


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
    """Write a set of ``per_class`` examples per class, by default one per size.

    ``sizes`` are token grids (rows, columns), taken in turn. With ``crop``, a grid, every second
    example has a crop of it. Moments are random, the means around a value of the class's own.
    """
    generator = torch.Generator().manual_seed(seed)

    def version(grid: tuple[int, int], class_id: int) -> torch.Tensor:
        height, width = (side * PATCH_SIZE for side in grid)
        shape = (1 + flips, 1 + posterior, channels, height, width)
        moments = 0.5 * torch.randn(shape, generator=generator)
        moments[:, 0] += 2 * class_id / max(classes - 1, 1) - 1
        if posterior:
            moments[:, 1] = 0.1 * moments[:, 1].abs()
        return moments

    count = per_class or len(sizes)
    examples = [
        EncodedExample(
            f"class{class_id}/{i}.png",
            class_id,
            version(sizes[i % len(sizes)], class_id),
            version(crop, class_id) if crop and i % 2 else None,
        )
        for class_id in range(classes)
        for i in range(count)
    ]
    path.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(examples), shard_size)
    for number, start in enumerate(starts):
        write_shard(path, number, examples[start : start + shard_size])
    info = LatentSetInfo(
        class_names=tuple(f"class{class_id}" for class_id in range(classes)),
        channels=channels,
        image_size=16 * max(max(size) for size in sizes),
        latent_format=LatentFormat(1.0),
        vae="random",
        flips=flips,
        posterior=posterior,
    )
    finish(path, info, len(starts))
    return path

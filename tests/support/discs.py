"""Folders of images that metrics can tell apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def make_discs(
    folder: Path, count: int = 24, size: tuple[int, int] = (60, 40), noise: float = 0.0
) -> Path:
    """Discs of random colours and places, the same in every call, with Gaussian ``noise`` added.

    Half of them are in a sub-folder. ``size`` is (width, height) in pixels; ``noise`` is the std,
    for values in 0..1. Returns ``folder``.
    """
    random, grain = np.random.RandomState(0), np.random.RandomState(7)
    y, x = np.mgrid[: size[1], : size[0]]
    for i in range(count):
        back, front = random.rand(2, 3)
        across, down = x / size[0] - random.rand(), y / size[1] - random.rand()
        disc = (across**2 + down**2 < 0.1)[..., None]
        image = np.where(disc, front, back) + noise * grain.standard_normal((*x.shape, 3))
        path = folder / ("deeper" if i % 2 else ".") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8)).save(path)
    return folder

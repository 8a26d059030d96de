"""Crops of images in memory, more of them from where a model still has large errors.

Overlapping tiles cover every image, and each stores the error that was last seen there. Most crops
are sampled in proportion to it: flat colours are learned in a minute, and looking at them again
would be most of the work.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_STRIDE = 32
"""Pixels between two tiles, which are two strides wide and high."""
_EVEN_SHARE = 0.25
"""Fraction of the crops that are sampled evenly, so that nothing that was learned is forgotten."""
_UNSEEN = 0.3
"""Error of a tile that was not seen yet: more than any tile has later."""


class TiledImages:
    """Images (3, H, W) uint8, none shorter than the crops. Only ``errors`` (tiles,) changes."""

    def __init__(self, images: Sequence[Tensor]) -> None:
        self.images = images
        self._tiles = [
            (i, y, x)
            for i, image in enumerate(images)
            for y in _starts(image.shape[1])
            for x in _starts(image.shape[2])
        ]
        self.errors = np.full(len(self._tiles), _UNSEEN)

    def sample(
        self, count: int, side: int, random: np.random.Generator
    ) -> tuple[np.ndarray, Tensor]:
        """Indices of ``count`` tiles, and a crop (count, 3, side, side) in 0..1 around each.

        A crop is centred on its tile, jittered by up to half a stride.
        """
        focused = (1 - _EVEN_SHARE) * self.errors / self.errors.sum()
        chance = _EVEN_SHARE / len(self.errors) + focused
        tiles = random.choice(len(self._tiles), count, p=chance)
        crops = [self._crop(int(tile), side, random) for tile in tiles]
        return tiles, torch.stack(crops).float() / 255

    def _crop(self, tile: int, side: int, random: np.random.Generator) -> Tensor:
        number, y, x = self._tiles[tile]
        pixels = self.images[number]
        shift = (_STRIDE - side / 2) + random.uniform(-_STRIDE / 2, _STRIDE / 2, 2)
        top, left = (
            round(min(max(start, 0), size - side))
            for start, size in zip((y + shift[0], x + shift[1]), pixels.shape[1:], strict=True)
        )
        return pixels[:, top : top + side, left : left + side]


def _starts(size: int) -> range:
    return range(0, max(size - _STRIDE, 1), _STRIDE)

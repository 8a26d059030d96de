"""Crops of a set of pictures that is small enough for memory, more of where a model still errs.

Every picture is laid out in overlapping tiles, each with the error that was last seen there. Most crops are drawn in proportion to
it: flat colours are learned in a minute, and looking at them again would be most of the work.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_STRIDE = 32
_EVEN_SHARE = 0.25
"""Of all crops, drawn evenly, so that nothing learned is forgotten unseen."""
_UNSEEN = 0.3
"""Error of a tile before it is first seen: more than any keeps."""


class TiledPictures:
    """Pictures (3, H, W) uint8, no side shorter than the crops. ``errors`` (tiles,) is all that changes."""

    def __init__(self, pictures: Sequence[Tensor]) -> None:
        self.pictures = pictures
        self._tiles = [
            (i, y, x)
            for i, p in enumerate(pictures)
            for y in _starts(p.shape[1])
            for x in _starts(p.shape[2])
        ]
        self.errors = np.full(len(self._tiles), _UNSEEN)

    def draw(self, count: int, side: int, random: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """Numbers of ``count`` tiles, and a crop (count, 3, side, side) in 0..1 around each, shaken by half a tile."""
        chance = (
            _EVEN_SHARE / len(self.errors) + (1 - _EVEN_SHARE) * self.errors / self.errors.sum()
        )
        tiles = random.choice(len(self._tiles), count, p=chance)
        crops = [self._crop(int(tile), side, random) for tile in tiles]
        return tiles, torch.stack(crops).float() / 255

    def _crop(self, tile: int, side: int, random: np.random.Generator) -> Tensor:
        picture, y, x = self._tiles[tile]
        pixels = self.pictures[picture]
        shift = (_STRIDE - side / 2) + random.uniform(-_STRIDE / 2, _STRIDE / 2, 2)
        top, left = (
            round(min(max(start, 0), size - side))
            for start, size in zip((y + shift[0], x + shift[1]), pixels.shape[1:], strict=True)
        )
        return pixels[:, top : top + side, left : left + side]


def _starts(size: int) -> range:
    """Of tiles of two strides a side."""
    return range(0, max(size - _STRIDE, 1), _STRIDE)

"""Images and latents on disk, in the order an image goes: decode, sources, vae, latent sets."""

from __future__ import annotations

import os
from pathlib import Path

from .arrow_set import ArrowLatentSet
from .latent_set import LatentSet
from .official_set import OfficialLatentSet, official_tokens


def open_latent_set(path: str | os.PathLike[str]) -> LatentSet:
    """Open a complete set that ``prepare`` wrote, or one in the layout of the official releases.

    Raises ``LatentSetError`` for any other folder, and for damaged or incomplete sets.
    """
    path = Path(path)
    tokens = official_tokens(path)
    return ArrowLatentSet(path) if tokens is None else OfficialLatentSet(path, tokens)

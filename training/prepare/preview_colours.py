"""The colours of live previews, for whichever VAE made a latent set: fitted to the set itself.

A few examples, evenly spread over the set, are stored with the colours of their images, so that the
fit needs no image a second time, and is the same for any number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from comfyui_fitv2.config import PATCH_SIZE
from comfyui_fitv2.metadata import LatentFormat
from comfyui_fitv2.preview import fit_latent_format
from comfyui_fitv2.resolution import VAE_FACTOR

from ..data.shards import read_shard
from ..data.sources import evenly
from .set_folder import SetFolder

EXAMPLES_PER_SHARD = 8
_SHARDS = 16
_MAX_CHANNELS = 6
"""With more channels, there are too many products of them (``preview_features``)."""
_DIGITS = 6
"""Digits kept of a number: fewer than depend on the order of sums."""
_WHITE = 255 * VAE_FACTOR**2
"""The sum over a white block."""


class PreviewColoursError(ValueError):
    """Colours that cannot be fitted; the message says why."""


def shards_to_fit(shards: Sequence[int]) -> list[int]:
    """The shards with examples that are stored with their colours."""
    return evenly(shards, _SHARDS)


def colour_sums(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) to uint16 (3, H/8, W/8): sums over the 8 × 8 pixels of each latent pixel."""
    height, width = image.shape[0] // VAE_FACTOR, image.shape[1] // VAE_FACTOR
    blocks = image.reshape(height, VAE_FACTOR, width, VAE_FACTOR, 3)
    return blocks.sum(axis=(1, 3), dtype=np.uint16).transpose(2, 0, 1)


def fit_preview_colours(
    output: SetFolder, shards: Sequence[int], channels: int, scale_factor: float
) -> LatentFormat:
    """A latent format whose colours fit the examples best, by least squares.

    Raises ``PreviewColoursError`` where the latents have too many channels, or no colours are
    stored with them.
    """
    if channels > _MAX_CHANNELS:
        raise PreviewColoursError(
            f"they are made for latents of at most {_MAX_CHANNELS} channels; these have {channels}."
        )
    pairs = [pair for number in shards for pair in _read_pairs(output, number, channels)]
    if not pairs:
        raise PreviewColoursError("its shards were written by an older version, without colours.")
    # As one image that is a pixel high: only pairs of a latent and its colour matter.
    latents, colours = (
        torch.cat(parts, dim=1)[None, :, None] for parts in zip(*pairs, strict=True)
    )
    fitted = fit_latent_format(latents, colours, scale_factor=scale_factor)
    factors, bias = fitted.latent_rgb_factors or [], fitted.latent_rgb_factors_bias or []
    return replace(
        fitted,
        latent_rgb_factors=[[round(value, _DIGITS) for value in row] for row in factors],
        latent_rgb_factors_bias=[round(value, _DIGITS) for value in bias],
    )


def _read_pairs(output: SetFolder, number: int, channels: int) -> list[tuple[Tensor, Tensor]]:
    """Latents (channels, n) and RGB in −1..1 (3, n) of the examples with colours in a shard."""
    rows = output.rows(number).table
    if "colours" not in rows.column_names:  # written before colours were stored
        return []
    coloured = np.flatnonzero(rows["colours"].is_valid().to_numpy()).tolist()
    if not coloured:
        return []
    output.pull_shard(number)
    shard, pairs = read_shard(output.folder, number), []
    for row in coloured:
        tokens = shard["rows"][row].as_py() * shard["columns"][row].as_py()
        values = shard["resized"][row].values.to_numpy()[: channels * tokens * PATCH_SIZE**2]
        colours = shard["colours"][row].values.to_numpy().astype(np.float64) / _WHITE * 2 - 1
        mean = torch.from_numpy(values.astype(np.float64))
        pairs.append((mean.view(channels, -1), torch.from_numpy(colours).view(3, -1)))
    return pairs

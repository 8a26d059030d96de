"""The colours of live previews, for whichever VAE made a latent set: fitted to the set itself."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from comfyui_fitv2.config import LatentFormat
from comfyui_fitv2.preview import fit_latent_format
from comfyui_fitv2.resolution import VAE_FACTOR

from ..data.decode import read_versions
from ..data.latent_set import PATCH, read_shard
from ..data.sources import Pictures, evenly

_SHARDS = 16
_PICTURES = 128
_MOST_CHANNELS = 6
"""Beyond it, products of every set of channels are too many."""
_DIGITS = 6
"""What is kept of a number: fewer than depend on the order of sums."""


def fit_preview_colours(
    folder: Path,
    shards: int,
    pictures: Pictures,
    resolution: int,
    channels: int,
    scale_factor: float,
) -> dict[str, Any]:
    """Fields of a ``LatentFormat`` by least squares over an even sample of the set; without colours where no picture can be read again."""
    latents, colours = [], []
    for number in evenly(range(shards), _SHARDS):
        shard = read_shard(folder, number).with_format("numpy")
        for index in evenly(range(len(shard)), _PICTURES // _SHARDS):
            row = shard[index]
            height, width = int(row["rows"]) * PATCH, int(row["columns"]) * PATCH
            with suppress(
                Exception
            ):  # a picture that has gone since it was encoded; others are left
                image = (
                    torch.from_numpy(
                        read_versions(pictures.source(str(row["file"])), resolution)[0].copy()
                    )
                    .permute(2, 0, 1)
                    .double()
                )
                colours.append(F.avg_pool2d(image / 127.5 - 1, VAE_FACTOR).flatten(1))
                mean = row["resized"][: channels * height * width]
                latents.append(torch.from_numpy(mean.astype(np.float64)).view(channels, -1))
    if not latents or channels > _MOST_CHANNELS:
        return {"scale_factor": scale_factor}
    # As one picture, a pixel high: only pairs of a latent and its colour count.
    fitted = fit_latent_format(
        *(torch.cat(parts, dim=1)[None, :, None] for parts in (latents, colours)),
        scale_factor=scale_factor,
    )
    factors, bias = fitted.latent_rgb_factors or [], fitted.latent_rgb_factors_bias or []
    return asdict(
        LatentFormat(
            scale_factor,
            [[round(v, _DIGITS) for v in row] for row in factors],
            [round(v, _DIGITS) for v in bias],
        )
    )

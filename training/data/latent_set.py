"""Latent sets: the images of a training set as a VAE encoded them, one example per image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from comfyui_fitv2.metadata import LatentFormat

INFO_FILE = "latent_set.json"
"""What a set written by ``prepare`` says of itself; the last file that is written."""


class LatentSetError(ValueError):
    """A folder that is not a usable latent set; the message says which, why, and what to do."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True, slots=True)
class LatentSetInfo:
    """What holds for every example of a latent set."""

    class_names: tuple[str, ...]
    """One name per class; a class id is an index into them."""
    channels: int
    """Latent channels."""
    image_size: int
    """S in pixels: a resized image has at most S² pixels, a cropped one is S × S."""
    latent_format: LatentFormat
    """Scale of the latents, and the colours of their previews."""
    vae: str
    """The VAE as it was named to ``prepare``, for people to read."""
    flips: bool = True
    """Whether the mirrored images were encoded too."""
    posterior: bool = False
    """Whether standard deviations are stored; a VAE without a posterior has none."""

    def to_dict(self) -> dict[str, Any]:
        """The content of ``latent_set.json`` that describes the examples."""
        return {
            "class_names": list(self.class_names),
            "channels": self.channels,
            "resolution": self.image_size,
            "latent_format": self.latent_format.to_dict(),
            "vae": self.vae,
            "flips": self.flips,
            "posterior": self.posterior,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LatentSetInfo:
        """The reverse of ``to_dict``. Raises ``KeyError`` or ``TypeError`` for other content."""
        values = dict(content)
        latent_format = LatentFormat.from_dict(values.pop("latent_format"), values["channels"])
        return cls(
            class_names=tuple(values.pop("class_names")),
            image_size=values.pop("resolution"),
            latent_format=latent_format,
            **values,
        )


class LatentSet(ABC):
    """Examples by index, as the moments of their latents.

    Copies for other processes are cheap: they hold file names, not latents.
    """

    info: LatentSetInfo
    class_ids: np.ndarray
    """(n,) int64."""
    grids: np.ndarray
    """(n, 2, 2) int64: tokens as (rows, columns) of the resized and of the cropped version, which
    are the same for an example without a crop."""

    def __len__(self) -> int:
        return len(self.class_ids)

    @property
    def lengths(self) -> np.ndarray:
        """(n, 2) int64: tokens of the resized and of the cropped version."""
        return self.grids.prod(axis=-1)

    @abstractmethod
    def names(self) -> list[str]:
        """What identifies each example, whatever its index: the name of its file."""

    @abstractmethod
    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation in the model's scale, each fp32 (channels, height, width).

        An example without a crop gives the resized version for ``cropped``, and a set without flips
        the plain one for ``flipped``. The standard deviation is 0 where the VAE has no posterior.
        """

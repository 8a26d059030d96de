"""How well a VAE keeps some of the images, before all of them are encoded with it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from comfyui_fitv2.pixels import from_bytes, psnr

from ..data.decode import read_versions
from ..data.sources import ImageSource, evenly
from ..data.vae import TINY, VAE
from ..data.vae_files import how_to_get
from .options import PrepareOptions
from .plan import Plan

_IMAGES = 6
_LARGEST = 256
"""Pixels per side: the middle of a larger image tells as much, in less time."""
_POOR, _VERY_POOR = 25.0, 20.0
"""Decibels below which the bundled VAE, and any VAE, is said not to suit the images. Stable
Diffusion's has 24 to 28 on photographs at 256 pixels; faces are lost below about 22."""


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """The PSNR of images that were encoded and decoded."""

    values: tuple[tuple[str, float], ...]
    """File and PSNR in dB, the worst first."""

    @property
    def median(self) -> float:
        return median(value for _, value in self.values)

    def to_dict(self) -> dict[str, Any]:
        file, worst = self.values[0]
        return {
            "images": len(self.values),
            "psnr_median": round(self.median, 1),
            "psnr_worst": round(worst, 1),
            "worst": file,
        }

    def say(self, vae: str) -> None:
        """Print it, with advice where the VAE does not suit the images."""
        file, worst = self.values[0]
        print(
            f"VAE: {len(self.values)} of the images encoded and decoded have a PSNR of "
            f"{self.median:.1f} dB (median); the worst has {worst:.1f} dB ({file})."
        )
        if vae == TINY and self.median < _POOR:
            print(
                "  The tiny VAE is made for flat colours and loses the detail of these images: "
                "faces, hair, text.\n  For photographs use Stable Diffusion's VAE. "
                f"{how_to_get()}"
            )
        elif self.median < _VERY_POOR:
            print(
                "  That is low: check with --check that the images are what you expect, or use "
                "another VAE."
            )


def measure_reconstruction(
    source: ImageSource, plan: Plan, vae: VAE, options: PrepareOptions
) -> Reconstruction | None:
    """Encode and decode a few images, evenly spread. None where none of them can be read."""
    measured = []
    for row in evenly(range(len(plan.images)), _IMAGES):
        file = str(plan.files[row])
        try:
            image, _ = read_versions(
                source.source(file), options.image_size, enlarge=options.enlarge
            )
        except Exception:  # reported when it is encoded
            continue
        pixels = from_bytes(_middle(image)[None])
        value = psnr(vae.reconstruct(pixels).cpu(), pixels)
        measured.append((file, value))
    measured.sort(key=lambda item: item[1])
    return Reconstruction(tuple(measured)) if measured else None


def _middle(image: np.ndarray) -> np.ndarray:
    height, width = (min(side, _LARGEST) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]

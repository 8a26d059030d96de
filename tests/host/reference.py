"""What the bundled model generates outside the host, to compare with."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from support.graph import GUIDANCE_SCALE, SEED, STEPS
from torch import Tensor

from comfyui_fitv2 import FiT, sample
from comfyui_fitv2.metadata import SD_LATENT_FORMAT

TOLERANCE = 1e-4
SCALE = SD_LATENT_FORMAT.scale_factor
"""Factor from the host's latents to the model's, the same for all models of these tests."""
FRANCE, ITALY, FINLAND = 76, 110, 75
HEIGHT, WIDTH = 16, 24


def noise(batch: int = 1, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Starting noise of the graphs."""
    return torch.randn(batch, 4, height, width, generator=torch.manual_seed(SEED))


def solver_noise() -> dict[str, Any]:
    """Options that give a stochastic solver the noise that it gets in the graphs."""
    generator = torch.Generator().manual_seed(SEED + 1)
    return {"noise_source": lambda x: torch.randn(x.shape, generator=generator)}


@cache
def sampled(
    model: FiT, *class_ids: int, size: tuple[int, int] = (HEIGHT, WIDTH), **settings: Any
) -> Tensor:
    """Latents for these classes, or France, with the settings of the graphs; sampled once.

    ``size`` is (height, width) of the latents.
    """
    y = torch.tensor(class_ids or [FRANCE])
    defaults = {"solver": "euler", "steps": STEPS, "guidance": GUIDANCE_SCALE}
    return sample(model, noise(len(y), *size), y, **{**defaults, **settings})


def distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()

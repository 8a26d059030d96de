"""What the bundled model draws outside the host, to compare with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from comfyui_fitv2 import FiT, sample

TOLERANCE = 1e-4
STEPS = 4
"""Of the graphs, where a test asks for no others."""
SCALE = 0.18215
"""From the bundled VAE's latents to the model's."""
FRANCE, ITALY, FINLAND = 76, 110, 75
HEIGHT, WIDTH = 16, 24


def noise(batch: int = 1, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """That of the graphs' seed, 7."""
    return torch.randn(batch, 4, height, width, generator=torch.manual_seed(7))


def drawn(model: FiT, *ids: int, **settings: Any) -> Tensor:
    """With the graphs' settings, and France where no class is asked for."""
    y = torch.tensor(ids or [FRANCE])
    return sample(
        model, noise(len(y)), y, **{"method": "euler", "steps": STEPS, "cfg_scale": 2.0, **settings}
    )


def distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def relative(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()

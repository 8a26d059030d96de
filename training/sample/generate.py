"""Generate the latents of many images, each decided by the seed and its index alone.

All noise of an image comes from a CPU generator of (seed, index), also inside stochastic solvers.
An adaptive solver is given one image at a time, because its steps depend on the whole batch. The
number of processes changes nothing, because batches are cut before they are shared out.

The other images of a batch change only the order of sums in matrix products. In fp32 this changes
one model evaluation by 1e-6; over all steps, with guidance, it grows to at most 7e-5 of a latent
with the bundled model (whose values reach 2.7): rarely one level of a pixel. In bf16, which rounds
65,000 times more coarsely, details differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor

from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.guidance import Guidance
from comfyui_fitv2.labels import Blend, Label, class_tensor, parts_of
from comfyui_fitv2.model import FiT
from comfyui_fitv2.resolution import Resolution
from comfyui_fitv2.sampling import image_noise, sample
from comfyui_fitv2.solvers import DEFAULT_SOLVER, SOLVERS, schedule

from ..seeds import image_generator

_LONGEST_LABEL = 150
"""Characters of a file name; with many classes in a blend the index alone tells them apart."""


@dataclass(frozen=True, slots=True)
class Request:
    """One image to generate."""

    index: int
    """Decides, with the seed, the noise; the file name begins with it."""
    label: Label | Blend
    size: Resolution

    @property
    def file_name(self) -> str:
        """Index, class and size, such as 000012_016-france_256x192.png.

        A blend has its classes with their weights in percent: 016-france-70+020-italy-30.
        """
        blended = isinstance(self.label, Blend)
        parts = [
            f"{_file_part(label)}-{100 * weight:.3g}" if blended else _file_part(label)
            for label, weight in parts_of(self.label)
        ]
        size = f"{self.size.width}x{self.size.height}.png"
        return f"{self.index:06d}_{'+'.join(parts)[:_LONGEST_LABEL]}_{size}"


def _file_part(label: Label) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", (label.name or "").lower()).strip("-")[:40]
    return f"{label.id:03d}-{name}" if name else f"{label.id:03d}"


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How to generate. Raises ``ValueError`` on an unknown solver and on values out of range."""

    solver: str = DEFAULT_SOLVER
    """Key of ``solvers.SOLVERS``."""
    steps: int = 20
    guidance: Guidance = field(default_factory=Guidance)
    extrapolation: Extrapolation | None = None
    """None is the model's own."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"A seed must be 0 or more, not {self.seed}.")
        schedule(self.solver, self.steps)


def requests_for(
    labels: Sequence[Label | Blend], sizes: Sequence[Resolution], count: int
) -> list[Request]:
    """``count`` images per class and size, size after size. Raises ``ValueError`` below 1."""
    if count < 1:
        raise ValueError(f"There must be 1 image or more per class, not {count}.")
    return [
        Request(index, label, size)
        for index, (size, label, _) in enumerate(product(sizes, labels, range(count)))
    ]


def batches(
    requests: Sequence[Request], tokens: int, *, packed: bool, solver: str
) -> list[list[Request]]:
    """Cut ``requests``, in order, into batches of at most ``tokens`` tokens, or of one image.

    A batch has images of one size unless ``packed``. Raises ``ValueError`` on fewer than 1 token.
    """
    if tokens < 1:
        raise ValueError(f"A batch must have 1 token or more, not {tokens}.")
    cut: list[list[Request]] = []
    for request in requests:
        batch = cut[-1] if cut else []
        total = sum(other.size.tokens for other in batch) + request.size.tokens
        fits = total <= tokens and not SOLVERS[solver].adaptive
        if batch and fits and (packed or batch[0].size == request.size):
            batch.append(request)
        else:
            cut.append([request])
    return cut


def generate(
    model: FiT,
    requests: Sequence[Request],
    settings: SamplingSettings,
    *,
    packed: bool,
    device: torch.device,
) -> list[Tensor]:
    """The latents of ``requests``, each (C, H, W) fp32 in the model's scale.

    The requests are of one size unless ``packed``. Raises ``ValueError`` on a model that predicts
    noise.
    """
    generators = [image_generator(settings.seed, request.index) for request in requests]
    shapes = [(model.config.in_channels, *request.size.latent_size) for request in requests]
    images = [torch.randn(s, generator=g) for s, g in zip(shapes, generators, strict=True)]
    noise = [image.to(device) for image in images]
    options: dict[str, Any] = {}
    if SOLVERS[settings.solver].stochastic:
        options["noise_source"] = image_noise(generators, shapes)
    latents = sample(
        model,
        noise if packed else torch.stack(noise),
        class_tensor([request.label for request in requests], model.config.num_classes).to(device),
        settings.solver,
        settings.steps,
        settings.guidance,
        settings.extrapolation,
        **options,
    )
    return list(latents)

"""Many pictures, each decided by the seed and its index.

Noise, at the start and within stochastic solvers, comes from a generator of (seed, index) on the CPU, and an adaptive solver is given one
picture at a time, because its steps depend on all that it is given. How many processes draw changes nothing at all: batches
are cut before they are handed out. What else shares a batch changes the order of sums in matrix products and nothing more. In fp32
one evaluation of the model then differs by 1e-6; guidance and steps spread that to at most 7e-5 of a latent with the bundled model
(values reach 2.7), which is one level of a pixel, seldom. In bf16, whose rounding is 65,000 times as coarse, details differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor

from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.guidance import Guidance, guided_velocity
from comfyui_fitv2.labels import Label, LabelError, resolve_labels
from comfyui_fitv2.model import FiT
from comfyui_fitv2.resolution import Resolution
from comfyui_fitv2.sampling import published_last_step, sampling_times
from comfyui_fitv2.solvers import STOCHASTIC, Velocity, solver_named

ADAPTIVE = ("dopri5",)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture to draw."""

    index: int
    label: Label
    size: Resolution

    @property
    def file_name(self) -> str:
        """Index, class and size, such as 000012_016-france_256x192.png."""
        name = re.sub(r"[^a-z0-9]+", "-", (self.label.name or "").lower()).strip("-")[:40]
        return f"{self.index:06d}_{self.label.id:03d}{'-' * bool(name)}{name}_{self.size.width}x{self.size.height}.png"


@dataclass(frozen=True, slots=True)
class Drawing:
    """How to draw. Raises ``ValueError`` on an unknown solver and values out of range."""

    solver: str = "heun"
    """Key of ``solvers.SOLVERS``."""
    steps: int = 20
    guidance: Guidance = field(default_factory=Guidance)
    extrapolation: Extrapolation | None = None
    """None is the model's own."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"A seed must be 0 or more, not {self.seed}.")
        solver_named(self.solver)
        sampling_times(self.steps)


def parse_classes(text: str, class_names: Sequence[str] | None, num_classes: int) -> list[Label]:
    """Classes as people list them: "0,1", "France, Finland", "all"; a name that holds a comma whole, or with semicolons between entries.

    Raises ``LabelError`` as ``labels.resolve_labels`` does.
    """
    if text.strip().lower() == "all":
        return [Label(i, class_names[i] if class_names else None) for i in range(num_classes)]
    if "," in text and ";" not in text:
        try:
            return resolve_labels(text, class_names, num_classes)
        except LabelError:
            text = text.replace(",", ";")
    return resolve_labels(text, class_names, num_classes)


def pictures_of(labels: Sequence[Label], sizes: Sequence[Resolution], count: int) -> list[Picture]:
    """``count`` pictures of each class at each size, size after size. Raises ``ValueError`` on a count below 1."""
    if count < 1:
        raise ValueError(f"There must be 1 picture or more of a class, not {count}.")
    return [
        Picture(index, label, size)
        for index, (size, label, _) in enumerate(product(sizes, labels, range(count)))
    ]


def batches(
    pictures: Sequence[Picture], tokens: int, *, packed: bool, solver: str
) -> list[list[Picture]]:
    """``pictures`` in order, cut into batches of at most ``tokens`` tokens or one picture; of one size unless ``packed``."""
    cut: list[list[Picture]] = []
    for picture in pictures:
        batch = cut[-1] if cut else []
        fits = (
            batch
            and sum(p.size.tokens for p in batch) + picture.size.tokens <= tokens
            and solver not in ADAPTIVE
        )
        if fits and (packed or batch[0].size == picture.size):
            batch.append(picture)
        else:
            cut.append([picture])
    return cut


def draw(
    model: FiT, pictures: Sequence[Picture], drawing: Drawing, *, packed: bool, device: torch.device
) -> list[Tensor]:
    """The latents (C, H, W) of ``pictures``, fp32 in the model's scale; of one size unless ``packed``. Raises ``ValueError`` on a model that predicts noise."""
    require_flow(model.config)
    generators = [image_generator(drawing.seed, p.index) for p in pictures]
    shapes = [(model.config.in_channels, *p.size.latent_size) for p in pictures]
    y = torch.tensor([p.label.id for p in pictures], device=device)

    def noise(like: Tensor | None = None) -> Tensor:
        drawn = [
            torch.randn(shape, generator=g) for shape, g in zip(shapes, generators, strict=True)
        ]
        return (_flat(drawn) if packed else torch.stack(drawn)).to(device)

    velocity = (
        _packed_velocity(model, shapes, y, drawing)
        if packed
        else guided_velocity(model, y, drawing.guidance, drawing.extrapolation)
    )
    solver = solver_named(
        drawing.solver, **({"noise_source": noise} if drawing.solver in STOCHASTIC else {})
    )
    times = sampling_times(
        drawing.steps, last_step_size=published_last_step(drawing.solver, drawing.steps, 1.0)
    )
    with torch.inference_mode():
        x = solver(velocity, noise(), times)
    return _parts(x, shapes) if packed else list(x)


def require_flow(config: FiTConfig) -> None:
    """Raise ``ValueError`` on a model that predicts noise."""
    if config.prediction != "velocity":
        raise ValueError(
            "This checkpoint is a FiT version 1, which predicts noise; rectified flows alone are drawn here. Sample it with KSampler in ComfyUI."
        )


def image_generator(seed: int, index: int) -> torch.Generator:
    """A generator on the CPU for one picture; neighbouring seeds and indices have nothing in common."""
    return torch.Generator().manual_seed(
        int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
    )


def _packed_velocity(
    model: FiT, shapes: Sequence[tuple[int, ...]], y: Tensor, drawing: Drawing
) -> Velocity:
    """As ``guided_velocity``, of one vector that holds pictures of any sizes one after the other."""
    guidance, extrapolation, count = drawing.guidance, drawing.extrapolation, len(shapes)
    both = torch.cat([y, torch.full_like(y, model.config.null_class)])

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        time, t, latents = t.item(), t.to(x.device), _parts(x, shapes)
        if not guidance.acts_at(time):
            return _flat(model.forward_packed(latents, t.expand(count), y, extrapolation))
        out = model.forward_packed(latents * 2, t.expand(2 * count), both, extrapolation)
        pairs = zip(out[:count], out[count:], strict=True)
        return _flat(
            [
                guidance.combine(conditional[None], unconditional[None], time)[0]
                for conditional, unconditional in pairs
            ]
        )

    return velocity


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in tensors])


def _parts(x: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    lengths = [int(np.prod(shape)) for shape in shapes]
    return [part.view(shape) for part, shape in zip(x.split(lengths), shapes, strict=True)]

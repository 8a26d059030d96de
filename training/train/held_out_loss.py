"""A loss that compares models of every kind: on images that none was trained on, always the same.

It is FiTv2's own loss, the mean squared error of the velocity at logit-normal times (or those that
a run trains on), here at the middles of equal parts of that distribution, with fixed noise. Version
1 predicts the noise of a DDPM; ``flow.LinearDDPM`` says which of its inputs stands for a point of
the rectified flow, and which velocity its output means. Times are those at which a DDPM has such an
input, so that all models see the same points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor
from tqdm.auto import tqdm

from comfyui_fitv2.flow import TimeDistribution, ddpm_flow_times, interpolate
from comfyui_fitv2.model import FiT

from ..data.latent_set import LatentSet
from ..seeds import image_generator

_SEED = 2410
_TOKENS = 4096
"""Tokens after which a batch is full."""
_LOGIT_NORMAL = TimeDistribution()


@dataclass(frozen=True, slots=True)
class Probe:
    """One image at one time."""

    data: Tensor
    """(C, h, w) fp32."""
    noise: Tensor
    time: float
    """Time of the rectified flow in [0, 1], 1 = data."""
    class_id: int
    """Class of the model."""


def held_out_times(count: int, times: TimeDistribution = _LOGIT_NORMAL) -> list[float]:
    """The middles of ``count`` equal parts of the distribution of ``times``, rising.

    Each is the nearest time that has the signal-to-noise ratio of a DDPM timestep.
    """
    known = ddpm_flow_times()
    middles = [_quantile(times, (i + 0.5) / count) for i in range(count)]
    return [float(known[(known - middle).abs().argmin()]) for middle in middles]


@torch.no_grad()
def held_out_loss(
    model: FiT,
    latents: LatentSet,
    class_map: Sequence[int],
    times: Sequence[float],
    device: torch.device,
    indices: Sequence[int] | None = None,
    *,
    progress: bool = True,
) -> float:
    """The mean over images of a latent set, by default all, at each of ``times``.

    ``class_map`` has the model's class id for each class of the set. Images are neither cropped nor
    mirrored.
    """
    indices = range(len(latents)) if indices is None else indices
    total, count = 0.0, len(indices) * len(times)
    with tqdm(
        total=count, desc="held-out loss", unit="image", leave=False, disable=not progress
    ) as bar:
        for batch in _batches(latents, class_map, times, indices):
            total += float(_velocity_errors(model, batch, device).sum())
            bar.update(len(batch))
    return total / count


def _quantile(times: TimeDistribution, probability: float) -> float:
    """The time below which a training time is with this probability; see ``sample_timesteps``."""
    t = probability
    if times.name == "logit-normal":
        normal = NormalDist(times.mean, times.std).inv_cdf(probability)
        t = float(torch.tensor(normal).sigmoid())
    return t / (1 + (times.shift - 1) * (1 - t))


def _batches(
    latents: LatentSet, class_map: Sequence[int], times: Sequence[float], indices: Sequence[int]
) -> Iterator[list[Probe]]:
    batch: list[Probe] = []
    tokens = 0
    for index in indices:
        data, _ = latents.moments(index, cropped=False, flipped=False)
        generator = image_generator(_SEED, index)
        class_id = class_map[int(latents.class_ids[index])]
        for time in times:
            noise = torch.randn(data.shape, generator=generator)
            batch.append(Probe(data, noise, time, class_id))
            tokens += int(latents.lengths[index, 0])
        if tokens >= _TOKENS:
            yield batch
            batch, tokens = [], 0
    if batch:
        yield batch


def _velocity_errors(model: FiT, batch: Sequence[Probe], device: torch.device) -> Tensor:
    """The mean squared error of the velocity of each probe, (probes,)."""
    points = [interpolate(probe.data, probe.noise, probe.time) for probe in batch]
    inputs, model_times = zip(
        *(model.flow.model_input(x, probe.time) for x, probe in zip(points, batch, strict=True)),
        strict=True,
    )
    t = torch.stack(model_times)
    y = torch.tensor([probe.class_id for probe in batch], device=device)
    outputs = model.forward_packed([x.to(device) for x in inputs], t.to(device), y)
    errors = []
    for probe, output, x, time in zip(batch, outputs, inputs, t, strict=True):
        velocity = model.flow.velocity(output.cpu(), x, time)
        errors.append((velocity - (probe.data - probe.noise)).square().mean())
    return torch.stack(errors)

"""A loss that models of every kind are compared by: on pictures that none was trained on, with noise and times that never change.

It is FiTv2's own, the mean square error of the velocity at logit-normal times, here the middles of equal parts of that distribution. Version 1
predicts the noise of a DDPM; a flow's point at time t is, but for its scale, the DDPM's at the timestep where signal and noise are as
strong (√ᾱ : √(1−ᾱ) = t : 1−t), and with that noise ε the velocity is (x − ε) / t. Times are those at which a DDPM has such a timestep, so that
all models see the same points.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import NormalDist

import torch
from torch import Tensor
from tqdm.auto import tqdm

from comfyui_fitv2.flow import ddpm_signal, interpolate
from comfyui_fitv2.model import FiT

from ..data.latent_set import LatentSet
from ..seeds import image_generator

_SEED = 2410
_TOKENS = 4096

Point = tuple[Tensor, Tensor, int, int]
"""Data, noise, DDPM timestep and label of one picture at one time."""


def held_out_timesteps(count: int) -> list[int]:
    """The DDPM timesteps nearest to the middles of ``count`` equal parts of the logit-normal distribution."""
    times = [torch.tensor(NormalDist().inv_cdf((i + 0.5) / count)).sigmoid() for i in range(count)]
    return [int((flow_times() - t).abs().argmin()) for t in times]


def flow_times() -> Tensor:
    """The flow's time with as much signal for the noise as each DDPM timestep, (1000,)."""
    signal, noise = ddpm_signal().sqrt(), (1 - ddpm_signal()).sqrt()
    return signal / (signal + noise)


@torch.inference_mode()
def held_out_loss(
    model: FiT, latents: LatentSet, labels: list[int], times: int, device: torch.device
) -> float:
    """The mean over ``times`` times of every picture, as it is, of a set whose classes are the model's ``labels``."""
    total, count = 0.0, len(latents) * times
    with tqdm(total=count, desc="held-out loss", unit="image", leave=False) as progress:
        for batch in _batches(latents, labels, held_out_timesteps(times)):
            total += float(_velocity_errors(model, batch, device).sum())
            progress.update(len(batch))
    return total / count


def _batches(latents: LatentSet, labels: list[int], timesteps: list[int]) -> Iterator[list[Point]]:
    batch: list[Point] = []
    tokens = 0
    for index in range(len(latents)):
        data, _ = latents.moments(index, cropped=False, flipped=False)
        generator = image_generator(_SEED, index)
        for timestep in timesteps:
            batch.append(
                (
                    data,
                    torch.randn(data.shape, generator=generator),
                    timestep,
                    labels[int(latents.labels[index])],
                )
            )
            tokens += int(latents.grids[index, 0].prod())
        if tokens >= _TOKENS:
            yield batch
            batch, tokens = [], 0
    if batch:
        yield batch


def _velocity_errors(model: FiT, batch: list[Point], device: torch.device) -> Tensor:
    """(points,) mean square errors."""
    data, noise, timesteps, labels = zip(*batch, strict=True)
    t, y = flow_times()[list(timesteps)], torch.tensor(labels, device=device)
    x = [interpolate(d, n, float(time)) for d, n, time in zip(data, noise, t, strict=True)]
    if model.config.prediction == "velocity":
        velocities = [
            v.cpu()
            for v in model.forward_packed([point.to(device) for point in x], t.to(device), y)
        ]
    else:
        scale = (t**2 + (1 - t) ** 2).sqrt()  # a DDPM's points have the variance of the data
        scaled = [(point / s).to(device) for point, s in zip(x, scale, strict=True)]
        predicted = model.forward_packed(
            scaled, torch.tensor(timesteps, dtype=torch.float32, device=device), y
        )
        velocities = [
            (point - epsilon.cpu()) / time
            for point, epsilon, time in zip(x, predicted, t, strict=True)
        ]
    return torch.stack(
        [(v - (d - n)).square().mean() for v, d, n in zip(velocities, data, noise, strict=True)]
    )

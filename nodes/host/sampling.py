"""Our solvers behind the host's sampling, for one size and for many sizes in one packed pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import comfy.sample
import comfy.utils
import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy.nested_tensor import NestedTensor
from comfy.samplers import KSAMPLER
from comfy_api.latest import io
from torch import Tensor
from tqdm.auto import tqdm

from ...comfyui_fitv2.extrapolation import Extrapolation
from ...comfyui_fitv2.resolution import VAE_FACTOR, Resolution
from ...comfyui_fitv2.sampling import image_noise
from ...comfyui_fitv2.solvers import SOLVERS, Noise, Velocity, schedule, solver_named
from .conditioning import Conditioning
from .model import require_fit, require_image_latents, with_extrapolation
from .older_hosts import intermediate_dtype, with_nested_latents
from .previews import StepCallback, step_callback
from .sigma import sigma_of_time, time_of_sigma

Latents = TypeVar("Latents", Tensor, NestedTensor)
"""Images of one size, (batch, C, H, W), or of several, (1, C, H_i, W_i) each."""

_SMALLEST_SIGMA = 2.0**-12
"""The host gives predicted data, and at sigma 0 no velocity follows from that. Solvers that
evaluate there get the velocity at this sigma instead."""


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """The settings that FiT Sampler and FiT Sweep Sampler have in common."""

    seed: int
    """Of the starting noise."""
    steps: int
    solver: str
    """A key of ``SOLVERS``."""
    guidance_scale: float
    denoise: float = 1.0
    """The part of the way from noise to image that is sampled, above 0 and at most 1."""


def empty_latent(resolution: Resolution, channels: int, batch_size: int) -> io.Latent.LatentDict:
    """An empty LATENT of this size, which the host adapts to the model that samples it."""
    samples = torch.zeros(
        batch_size,
        channels,
        *resolution.latent_size,
        device=model_management.intermediate_device(),
        dtype=intermediate_dtype(),
    )
    # The key's spelling is the host's, and not among those that its type names.
    latent: Any = {"samples": samples, "downscale_ratio_spacial": VAE_FACTOR}
    return latent


def grid_of(model: ModelPatcher, latent: io.Latent.LatentDict) -> tuple[int, int]:
    """Rows and columns of the tokens of a LATENT, whose odd sizes are padded.

    Raises ``ValueError`` for latents that are no images of this model.
    """
    metadata = require_fit(model).metadata
    samples = _adapted(model, latent)
    for image in samples.unbind() if samples.is_nested else [samples]:
        require_image_latents(image.shape, metadata)
    if samples.is_nested:
        raise ValueError("These latents are of several sizes; connect those of one.")
    rows, columns = (math.ceil(side / metadata.config.patch_size) for side in samples.shape[-2:])
    return rows, columns


def _adapted(model: ModelPatcher, latent: io.Latent.LatentDict) -> Tensor:
    """The latents of a LATENT; empty ones with the channels and the size of this model."""
    return comfy.sample.fix_empty_latent_channels(
        model, latent["samples"], latent.get("downscale_ratio_spacial")
    )


def sample(
    model: ModelPatcher,
    settings: SamplingSettings,
    positive: Conditioning,
    negative: Conditioning,
    latent: io.Latent.LatentDict,
) -> io.Latent.LatentDict:
    """A LATENT sampled from another: empty, or of images to change, with or without a mask."""
    sampled = _sample(
        model,
        settings,
        positive,
        negative,
        _adapted(model, latent),
        step_callback(model, settings.steps),
        noise_mask=latent.get("noise_mask"),
        batch_index=latent.get("batch_index"),
    )
    kept = {k: value for k, value in latent.items() if not k.startswith("downscale_ratio")}
    return {**kept, "samples": sampled}  # pyright: ignore[reportReturnType]


def sample_packed(
    model: ModelPatcher,
    settings: SamplingSettings,
    positive: Conditioning,
    negative: Conditioning,
    sizes: Sequence[tuple[int, int]],
    extrapolations: Sequence[Extrapolation],
    seeds: Sequence[int],
    callback: StepCallback,
) -> list[Tensor]:
    """Latents (1, C, H_i, W_i) of these ``sizes`` (H_i, W_i), in one pass per model evaluation.

    There is one extrapolation and one seed per image, which ``settings.seed`` does not replace, and
    a class per image in ``positive``. Every image starts from the noise that it would have alone
    with its seed.
    """
    channels = model.model.latent_format.latent_channels
    empty = [torch.zeros(1, channels, *size) for size in sizes]
    if len(empty) == 1:  # not a pack to the host
        settings = replace(settings, seed=seeds[0])
        model = with_extrapolation(model, extrapolations[0])
        return [_sample(model, settings, positive, negative, empty[0], callback)]
    model = with_extrapolation(model, tuple(extrapolations))
    latents = NestedTensor(empty)
    return _sample(model, settings, positive, negative, latents, callback, seeds=seeds).unbind()


def _sample(
    model: ModelPatcher,
    settings: SamplingSettings,
    positive: Conditioning,
    negative: Conditioning,
    latents: Latents,
    callback: StepCallback,
    noise_mask: Tensor | None = None,
    batch_index: list[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> Latents:
    """Latents sampled from others; ``seeds`` are those of the images of a pack."""
    packed = isinstance(latents, NestedTensor)
    images = latents.unbind() if packed else [latents]
    seeds = seeds or [settings.seed] * len(images)
    noise = [
        comfy.sample.prepare_noise(image, seed, batch_index)
        for image, seed in zip(images, seeds, strict=True)
    ]
    shapes = [image.shape for image in images] if packed else None
    if shapes is not None:
        callback = with_nested_latents(callback, shapes)
    return comfy.sample.sample_custom(
        model,
        NestedTensor(noise) if packed else noise[0],
        settings.guidance_scale,
        sampler(settings.solver, shapes=shapes, seeds=seeds if packed else None),
        schedule(settings.solver, settings.steps, settings.denoise),
        positive,
        negative,
        latents,
        noise_mask=noise_mask,
        callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=settings.seed,
    )


def sampler(
    solver: str,
    options: Mapping[str, float | str] | None = None,
    shapes: Sequence[Sequence[int]] | None = None,
    seeds: Sequence[int] | None = None,
) -> KSAMPLER:
    """A solver, a key of ``SOLVERS``, with its options, as the host's SAMPLER.

    The noise of a stochastic one comes from the seed after that of the starting noise. For packed
    latents their ``shapes`` and ``seeds`` must be given: then every image gets the noise it would
    have alone.
    """
    facts = SOLVERS[solver]
    integrate = solver_named(solver, **(options or {}))

    def sample(
        model: Callable[..., Tensor],
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[[dict[str, Any]], None] | None,
        disable: bool,
    ) -> Tensor:
        if sigmas.max() > 1:
            raise ValueError(
                "FiT solvers follow rectified flows, whose sigmas fall from 1 to 0; these start at "
                f"{sigmas.max().item():.4g}. For a model that predicts noise, such as FiT version "
                "1, use KSampler."
            )
        times = time_of_sigma(sigmas.cpu())
        start, end, steps = times[0].item(), times[-1].item(), len(times) - 1
        noise = {}
        if facts.stochastic:
            of_images = seeds or [extra_args.get("seed") or 0]
            noise = {"noise_source": _solver_noise(of_images, shapes or [x.shape])}

        with tqdm(total=steps, disable=disable) as progress:

            def report(step: int, x: Tensor, t: Tensor, slope: Tensor) -> None:
                if facts.adaptive:  # its steps are its own, so time tells how far it is
                    step = min(int((t.item() - start) / (end - start) * steps), steps - 1)
                progress.update(step + 1 - progress.n)
                if callback is None:
                    return
                sigma = sigmas.new_tensor(sigma_of_time(t.item()))
                state = {"x": x, "i": step, "sigma": sigma, "sigma_hat": sigma}
                callback({**state, "denoised": x + (1 - t) * slope})

            return integrate(_velocity_of(model, extra_args), x, times, report, **noise)

    return KSAMPLER(sample)


def _velocity_of(model: Callable[..., Tensor], extra_args: dict[str, Any]) -> Velocity:
    """The host's model of x and sigma, which predicts data, as a velocity of x and t."""

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        sigma = sigma_of_time(t.item())
        if abs(sigma) < _SMALLEST_SIGMA:
            sigma = _SMALLEST_SIGMA
        denoised = model(x, sigma * x.new_ones(len(x)), **extra_args)
        return (denoised - x) / sigma

    return velocity


def _solver_noise(seeds: Sequence[int], shapes: Sequence[Sequence[int]]) -> Noise:
    """Noise for each of the tensors that make up x, from the seed after its own."""
    generators = [torch.Generator().manual_seed((seed + 1) % 2**64) for seed in seeds]
    return image_noise(generators, shapes)

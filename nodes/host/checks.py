"""What a MODEL looks at once before it is sampled, by whichever sampler, to warn of it.

Nothing here ends a run: ComfyUI's own nodes allow all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from ...comfyui_fitv2.resolution import FAR_BEYOND, VAE_FACTOR
from . import notices
from .foreign_patches import telling_once
from .network import LATENT_SHAPES
from .sigma import sampler_time

if TYPE_CHECKING:
    from .model import FiTModel

CHECKS_KEY = "fitv2"
"""Key of the wrapper, of the kind ``OUTER_SAMPLE``, on every MODEL with a FiT."""
_ALMOST_ALL_NOISE = 0.9
"""Some of ComfyUI's schedulers start a little below 1, without harm to an empty latent."""


def warn_before_sampling(model: ModelPatcher) -> None:
    """Let every sampler of this MODEL and its clones look at latents and sigmas first."""
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, CHECKS_KEY, _look_and_sample)


def _look_and_sample(
    sample: WrapperExecutor,
    noise: Tensor,
    latents: Tensor,
    sampler: Any,
    sigmas: Tensor,
    *rest: Any,
    **named: Any,
) -> Any:
    """ComfyUI's wrapper of a whole run; ``latents`` have the VAE's scale."""
    guider: Any = sample.class_obj
    model = guider.model_patcher.model
    warnings = [
        *_of_size(model, named.get(LATENT_SHAPES) or [latents.shape]),
        *_of_noise(model, latents, sigmas),
    ]
    if warnings:
        notices.show("", tuple(warnings))
    with telling_once():
        return sample(noise, latents, sampler, sigmas, *rest, **named)


def _of_size(model: FiTModel, shapes: Sequence[Sequence[int]]) -> Iterator[str]:
    """A warning of the largest image, of shape (batch, C, H, W), before memory fills."""
    config = model.metadata.config
    height, width = max((shape[-2:] for shape in shapes), key=math.prod)
    tokens = math.ceil(height / config.patch_size) * math.ceil(width / config.patch_size)
    if tokens > FAR_BEYOND * config.train_tokens:
        yield (
            f"{tokens / config.train_tokens:.0f}× the trained tokens ({config.train_tokens}): "
            "cancel, and choose a smaller size, unless you mean it. "
            f"{width * VAE_FACTOR} × {height * VAE_FACTOR} px are {tokens} tokens. Each step takes "
            f"very long, and about {model.activation_bytes(height, width) / 1e9:.0f} GB of memory "
            "beside the model."
        )


def _of_noise(model: FiTModel, latents: Tensor, sigmas: Tensor) -> Iterator[str]:
    """A warning of an image to change that is not there."""
    noise_level = 1 - sampler_time(model, sigmas[:1])
    if noise_level < _ALMOST_ALL_NOISE and not latents.any():
        yield (
            "The latent is empty: set denoise to 1, or connect VAE Encode of an image. Sampling "
            f"starts at {noise_level:.0%} noise, as if there were an image to change, and the "
            "result may be blank or noisy."
        )

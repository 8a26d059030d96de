"""The feature distance of a model's images to held-out drawings of the same size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from comfyui_fitv2.checkpoint import LoadedModel
from comfyui_fitv2.flow import DDPM_TIMESTEPS, ddpm_signal
from comfyui_fitv2.guidance import Guidance, guided_velocity
from comfyui_fitv2.labels import Label, class_tensor
from comfyui_fitv2.pixels import to_bytes
from comfyui_fitv2.resolution import Resolution
from comfyui_fitv2.solvers import Velocity

from ..data.sources import evenly, open_unsorted
from ..data.vae import TINY, VAE, open_vae
from ..evaluate.extractors import RandomFeatures
from ..evaluate.feature_set import FeatureSet, reference_features
from ..evaluate.metrics import feature_statistics, frechet_distance
from ..sample.generate import Request, SamplingSettings, batches, generate, requests_for
from ..seeds import image_generator
from .config import Distances
from .data import Measured

_SOLVER, _TOKENS = "euler", 4096
_SEED = 5
_EXAMPLES = 8


class DistanceMeter:
    """Everything that distances of several models share."""

    def __init__(self, settings: Distances, cache: Path, device: torch.device) -> None:
        self.settings = settings
        self._cache = cache
        self._device = device
        self._extractor = RandomFeatures().to(device)
        self._vae: VAE | None = None

    def distance(self, loaded: LoadedModel, held_out: Measured) -> float:
        """The Fréchet distance; lower is better."""
        size, reference = self._reference(held_out)
        requests = requests_for(_labels(loaded), [size], self.settings.per_class)
        features = []
        for images in self._images(loaded, requests):
            pixels = torch.from_numpy(images).movedim(-1, 1).to(self._device)
            with torch.inference_mode():
                features.append(self._extractor(pixels)[0].cpu())
        return frechet_distance(
            feature_statistics(torch.cat(features)), reference.pooled_statistics
        )

    def examples(self, loaded: LoadedModel, held_out: Measured) -> list[Image.Image]:
        """An image of each of some classes, evenly spread, of the set's size."""
        assert held_out.settings is not None
        labels = evenly(_labels(loaded), _EXAMPLES)
        requests = requests_for(labels, [held_out.settings.sample_size], 1)
        return [
            Image.fromarray(image) for images in self._images(loaded, requests) for image in images
        ]

    def _images(self, loaded: LoadedModel, requests: list[Request]) -> Iterator[np.ndarray]:
        """Batches of images (images, height, width, 3) uint8."""
        vae = self._vae = self._vae or open_vae(TINY, self._device)
        guidance = Guidance(self.settings.guidance)
        settings = SamplingSettings(_SOLVER, self.settings.steps, guidance, seed=_SEED)
        for batch in batches(requests, _TOKENS, packed=False, solver=_SOLVER):
            latents = draw(loaded, batch, settings, self._device)
            with torch.inference_mode():
                yield to_bytes(vae.decode(latents))

    def floor(self, held_out: Measured) -> float | None:
        """What half of the real drawings reach against the other half."""
        found = self._reference(held_out)[1].floor(self.settings.references // 2)
        return None if found is None else found[1][0]

    def _reference(self, held_out: Measured) -> tuple[Resolution, FeatureSet]:
        assert held_out.settings is not None
        assert held_out.drawings is not None
        size = held_out.settings.sample_size
        source = open_unsorted(held_out.drawings, "the held-out drawings")
        features = reference_features(
            source,
            source.listing(),
            size,
            self.settings.references,
            self._extractor,
            self._device,
            self._cache,
        )
        return size, features


def _labels(loaded: LoadedModel) -> list[Label]:
    return [Label(i, name) for i, name in enumerate(loaded.class_names or ())]


def draw(
    loaded: LoadedModel, batch: list[Request], settings: SamplingSettings, device: torch.device
) -> Tensor:
    """Latents (images, C, H, W) of requests of one size; DDIM for a model that predicts noise."""
    model = loaded.model
    if not model.flow.predicts_noise:
        return torch.stack(generate(model, batch, settings, packed=False, device=device))
    shape = (model.config.in_channels, *batch[0].size.latent_size)
    noise = [
        torch.randn(shape, generator=image_generator(settings.seed, request.index))
        for request in batch
    ]
    y = class_tensor([request.label for request in batch], model.config.num_classes).to(device)
    predicted = guided_velocity(model, y, settings.guidance)
    return ddim(predicted, torch.stack(noise).to(device), settings.steps)


@torch.no_grad()
def ddim(predicted_noise: Velocity, x: Tensor, steps: int) -> Tensor:
    """Integrate from noise ``x`` to data (arXiv 2010.02502, η = 0) at evenly spaced timesteps."""
    signal = ddpm_signal().to(x.device)
    timesteps = torch.linspace(DDPM_TIMESTEPS - 1, 0, steps).round().long().tolist()
    for i, t in enumerate(timesteps):
        noise = predicted_noise(x, torch.tensor(float(t)))
        data = (x - (1 - signal[t]).sqrt() * noise) / signal[t].sqrt()
        left = signal[timesteps[i + 1]] if i + 1 < steps else torch.ones_like(signal[0])
        x = left.sqrt() * data + (1 - left).sqrt() * noise
    return x

"""The feature distance of a model's images to held-out drawings of the same size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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

from ..data.decode import read_middle
from ..data.sources import ImageSource, Listing, evenly, open_unsorted
from ..data.vae import TINY, VAE, open_vae
from ..evaluate.feature_set import FeatureSet, reference_features
from ..evaluate.metrics import feature_statistics, frechet_distance
from ..sample.generate import Request, SamplingSettings, batches, generate, requests_for
from ..seeds import image_generator
from .classifier import shape_features
from .config import Distances
from .data import Measured
from .drawn_shapes import CLASSES

_SOLVER, _TOKENS = "euler", 4096
_SEED = 5
_EXAMPLES = 8
_RECONSTRUCTED = 32
"""Images that the VAE encodes together."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How images of one size compare with drawings of that size; lower is better."""

    distance: float
    """Fréchet distance of the classifier's features."""
    error: float
    """Share of images that the classifier takes for another class."""


class DistanceMeter:
    """Everything that distances of several models share."""

    def __init__(
        self, settings: Distances, folder: Path, precision: str, device: torch.device
    ) -> None:
        """``folder`` keeps the classifier and the features of drawings.

        Images are generated and decoded in the ``precision`` of training, "bf16" or "fp32".
        """
        self.settings = settings
        self._folder = folder
        self._bf16 = precision == "bf16"
        self._device = device
        file = folder / f"classifier-{settings.classifier}.safetensors"
        self._classifier = shape_features(file, settings.classifier).to(device)
        self._vae: VAE | None = None

    @property
    def name(self) -> str:
        """Changes with the weights of the classifier."""
        return self._classifier.get_name()

    def quality(self, loaded: LoadedModel, held_out: Measured) -> Quality:
        """That of images that a model generates, the same number of each class."""
        size, reference = self._reference(held_out)
        labels, per_class = _labels(loaded), self.settings.per_class
        requests = requests_for(labels, [size], per_class)
        names = [label.name or "" for label in labels for _ in range(per_class)]
        return self._quality(self._images(loaded, requests), names, reference)

    def floors(self, held_out: Measured) -> dict[str, Quality]:
        """That of as many other drawings; of these after encoding and decoding; and blurred."""
        size, reference = self._reference(held_out)
        source, listing = _drawings(held_out)
        taken = set(evenly(listing.files, self.settings.references))
        count = self.settings.per_class * len(held_out.latents.info.class_names)
        files = evenly([file for file in listing.files if file not in taken], count)
        names = [Path(file).parent.name for file in files]
        read = [read_middle(source.source(file), size.width, size.height)[0] for file in files]
        real = np.stack(read)
        kinds = {
            "other drawings": real,
            "reconstructed": self._reconstructed(real),
            "blurred": np.stack([_blurred(image) for image in real]),
        }
        return {kind: self._quality([images], names, reference) for kind, images in kinds.items()}

    def examples(self, loaded: LoadedModel, held_out: Measured) -> list[Image.Image]:
        """An image of each of some classes, evenly spread, of the set's size."""
        assert held_out.settings is not None
        labels = evenly(_labels(loaded), _EXAMPLES)
        requests = requests_for(labels, [held_out.settings.sample_size], 1)
        return [
            Image.fromarray(image) for images in self._images(loaded, requests) for image in images
        ]

    def _quality(
        self, batches: Iterable[np.ndarray], names: Sequence[str], reference: FeatureSet
    ) -> Quality:
        features, logits = [], []
        for images in batches:
            pixels = torch.from_numpy(images).movedim(-1, 1).to(self._device)
            with torch.inference_mode():
                found = self._classifier(pixels)
            features.append(found[0].cpu())
            logits.append(found[2].cpu())
        statistics = feature_statistics(torch.cat(features))
        right = [
            CLASSES[answer] == name
            for answer, name in zip(torch.cat(logits).argmax(1).tolist(), names, strict=True)
        ]
        distance = frechet_distance(statistics, reference.pooled_statistics)
        return Quality(distance, 1 - sum(right) / len(right))

    def _images(self, loaded: LoadedModel, requests: list[Request]) -> Iterator[np.ndarray]:
        """Batches of images (images, height, width, 3) uint8."""
        guidance = Guidance(self.settings.guidance)
        settings = SamplingSettings(_SOLVER, self.settings.steps, guidance, seed=_SEED)
        for batch in batches(requests, _TOKENS, packed=False, solver=_SOLVER):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
                latents = draw(loaded, batch, settings, self._device)
            with torch.inference_mode():
                yield to_bytes(self._opened_vae().decode(latents))

    def _reconstructed(self, images: np.ndarray) -> np.ndarray:
        vae, parts = self._opened_vae(), []
        for part in torch.from_numpy(images).movedim(-1, 1).split(_RECONSTRUCTED):
            parts.append(to_bytes(vae.reconstruct(part.to(self._device) / 255)))
        return np.concatenate(parts)

    def _opened_vae(self) -> VAE:
        dtype = torch.bfloat16 if self._bf16 else torch.float32
        self._vae = self._vae or open_vae(TINY, self._device, dtype)
        return self._vae

    def _reference(self, held_out: Measured) -> tuple[Resolution, FeatureSet]:
        assert held_out.settings is not None
        source, listing = _drawings(held_out)
        size = held_out.settings.sample_size
        features = reference_features(
            source,
            listing,
            size,
            self.settings.references,
            self._classifier,
            self._device,
            self._folder,
        )
        return size, features


def _drawings(held_out: Measured) -> tuple[ImageSource, Listing]:
    assert held_out.references is not None
    source = open_unsorted(held_out.references, "the held-out drawings")
    return source, source.listing()


def _blurred(image: np.ndarray) -> np.ndarray:
    """As a drawing of an eighth of the width and height would look."""
    small = Image.fromarray(image)
    smaller = max(small.width // 8, 1), max(small.height // 8, 1)
    small = small.resize(smaller, Image.Resampling.BOX)
    return np.asarray(small.resize(image.shape[1::-1], Image.Resampling.BICUBIC))


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

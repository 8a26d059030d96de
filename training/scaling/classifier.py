"""A small network that was trained to tell the classes of the drawn shapes apart.

Its features compare generated images with drawings, as Inception's do for photographs, and its
answers say how many images show what was asked for. Features of random weights hardly tell a
reconstruction from blobs of the same colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorBase
from tqdm.auto import tqdm

from ..evaluate.extractors import FEATURES, SPATIAL_CHANNELS
from ..whole_files import file_digest, write_whole
from .drawn_shapes import CLASSES, Ratios, drawing

_SIDE = 64
"""The network sees every image with about as many pixels as a square of this side."""
_WIDTHS = (16, 32, 64, 64)
_GROUPS = 8
"""Groups that are normalised, in each image: a batch has one shape of the sides, so that batch
normalisation would learn to expect the statistics of one shape."""
_FEATURES = 48
_RATIOS = (1.0, 1.0, 1.25, 1.5, 2.0, 3.0)
_EPOCHS, _BATCH = 8, 48
_RATE = 4e-3
_SEED = 2411


class ShapeFeatures(FeatureExtractorBase):
    """Takes uint8 (batch, 3, H, W) of any size.

    Returns ``pooled`` (batch, 48), the last layer but one; ``spatial`` (batch, 7 · h · w), some
    channels before; ``logits`` (batch, classes), in the order of ``CLASSES``.
    """

    def __init__(self) -> None:
        super().__init__("shapes", FEATURES)
        layers: list[nn.Module] = []
        channels = 3
        for width, stride in zip(_WIDTHS, (2, 2, 1, 2), strict=True):
            layers += [
                nn.Conv2d(channels, width, 3, stride, 1, bias=False),
                nn.GroupNorm(_GROUPS, width),
                nn.ReLU(),
            ]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.features = nn.Linear(2 * channels, _FEATURES)
        self.classes = nn.Linear(_FEATURES, len(CLASSES))

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return FEATURES

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        height, width = input.shape[-2:]
        scale = _SIDE / (height * width) ** 0.5
        size = round(height * scale), round(width * scale)
        x = F.interpolate(input.float() / 127.5 - 1, size, mode="bilinear", antialias=True)
        x = self.layers(x)
        pooled = F.relu(self.features(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)))
        return pooled, x[:, :SPATIAL_CHANNELS].flatten(1), self.classes(pooled)


def shape_features(file: Path, drawings: int) -> ShapeFeatures:
    """The network of a safetensors file; where there is none, it is trained and written.

    It learns from so many ``drawings`` of its own, of several shapes of the sides: 3,000 take half
    a minute of one core. The same number of threads gives the same weights. ``get_name()`` of
    the network changes with its weights.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(file) as temporary:
            save_file(_trained(drawings).state_dict(), temporary)
    network = ShapeFeatures()
    network.load_state_dict(load_file(file))
    network.name = f"shapes-{file_digest(file)}"
    return network.requires_grad_(False).eval()


def _trained(drawings: int) -> ShapeFeatures:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = ShapeFeatures()
    random = np.random.default_rng(_SEED)
    sets = _drawn(drawings, random)
    steps = _EPOCHS * sum(-(-len(labels) // _BATCH) for _, labels in sets)
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, steps)
    batches = (batch for _ in range(_EPOCHS) for batch in _batches(sets, random))
    for images, labels in tqdm(batches, "classifier of the shapes", steps, leave=False):
        logits = network(_softened(images, random))[2]
        F.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return network.eval()


_Images = tuple[Tensor, Tensor]
"""Drawings of one size, uint8 (images, 3, H, W), and the class of each."""


def _drawn(count: int, random: np.random.Generator) -> list[_Images]:
    """Drawings by size."""
    by_size: dict[tuple[int, int], list[tuple[Tensor, int]]] = {}
    for index in tqdm(range(count), desc="drawings for the classifier", unit="image", leave=False):
        label = index % len(CLASSES)
        ratio = _RATIOS[index // len(CLASSES) % len(_RATIOS)]
        image = drawing(CLASSES[label], _SIDE, Ratios(least=ratio, most=ratio), random)
        pixels = torch.from_numpy(np.array(image)).movedim(-1, 0)
        by_size.setdefault(image.size, []).append((pixels, label))
    return [
        (torch.stack([pixels for pixels, _ in group]), torch.tensor([label for _, label in group]))
        for group in by_size.values()
    ]


def _batches(sets: list[_Images], random: np.random.Generator) -> Iterator[_Images]:
    """All drawings once, in random batches of one size, half of the batches mirrored."""
    cut = [
        (images, labels, part)
        for images, labels in sets
        for part in torch.from_numpy(random.permutation(len(labels))).split(_BATCH)
    ]
    for number in random.permutation(len(cut)):
        images, labels, part = cut[number]
        mirrored = random.random() < 0.5
        yield images[part].flip(-1) if mirrored else images[part], labels[part]


def _softened(images: Tensor, random: np.random.Generator) -> Tensor:
    """The images with up to a third of their resolution lost, as an autoencoder loses some."""
    size = images.shape[-2:]
    smaller = [round(side / random.uniform(1, 1.5)) for side in size]
    pixels = F.interpolate(images.float(), smaller, mode="bilinear", antialias=True)
    return F.interpolate(pixels, size, mode="bilinear").round().clamp(0, 255)

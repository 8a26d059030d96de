"""What pictures are compared by: features of an Inception file that the user names, or of a small network that needs no download.

Published FID, sFID, IS, precision and recall are of the Inception network of 2015 in TensorFlow's, torch-fidelity's or pytorch-fid's
conversion: ``inception_features`` reads that file. ``BundledFeatures`` has random weights from a fixed seed. Such features tell sharp
from blurred and one set of pictures from another (arXiv 2002.09797 uses them so), and its numbers are comparable with each other only.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

POOLED, SPATIAL, LOGITS = "pooled", "spatial", "logits"
FEATURES = (POOLED, SPATIAL, LOGITS)
SPATIAL_CHANNELS = 7
"""sFID (arXiv 2103.03841) looks at so many channels of a map in the middle of the network, at all their positions."""


class BundledFeatures(FeatureExtractorBase):
    """Convolutions of random orthonormal filters on the picture at 64 × 64 pixels.

    Takes uint8 (batch, 3, H, W). Gives ``pooled`` (batch, 230), mean and deviation of every channel of every layer; ``spatial``
    (batch, 7 · 8 · 8) of the last; ``logits`` (batch, 16), a random reading of ``pooled`` into classes that mean nothing.
    """

    SIDE = 64
    WIDTHS = (3, 16, 32, 64)
    KERNEL = 5
    GAIN = 2**0.5
    CLASSES = 16
    SEED = 2410

    def __init__(self) -> None:
        super().__init__("bundled-1", FEATURES)
        # NumPy promises these numbers for ever, which PyTorch does not.
        random = np.random.RandomState(self.SEED)
        self.layers = nn.ModuleList()
        for inputs, outputs in pairwise(self.WIDTHS):
            layer = nn.Conv2d(
                inputs, outputs, self.KERNEL, stride=2, padding=self.KERNEL // 2, bias=False
            )
            filters = np.linalg.qr(random.standard_normal((inputs * self.KERNEL**2, outputs)))[0].T
            layer.weight.data = (
                torch.from_numpy(self.GAIN * filters).float().reshape(layer.weight.shape)
            )
            self.layers.append(layer)
        self.reading = nn.Parameter(
            torch.from_numpy(random.standard_normal((2 * sum(self.WIDTHS), self.CLASSES))).float()
        )
        self.requires_grad_(False).eval()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return FEATURES

    def forward(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.interpolate(
            input.float() / 127.5 - 1, (self.SIDE, self.SIDE), mode="bilinear", antialias=True
        )
        moments = [x.mean((2, 3)), x.std((2, 3))]
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.1)
            moments += [x.mean((2, 3)), x.std((2, 3))]
        pooled = torch.cat(moments, dim=1)
        return pooled, x[:, :SPATIAL_CHANNELS].flatten(1), pooled @ self.reading


class InceptionFeatures(FeatureExtractorInceptionV3):
    """The Inception network of published numbers, with the map that sFID looks at.

    Takes uint8 (batch, 3, H, W), which it stretches to 299 × 299. ``pooled`` is (batch, 2048), ``spatial`` (batch, 7 · 17 · 17) of the layer that
    TensorFlow calls mixed_6/conv, ``logits`` (batch, 1008) without their bias, as published IS has them.
    """

    _own_names = {POOLED: "2048", LOGITS: "logits_unbiased"}  # noqa: RUF012

    def __init__(self, name: str, state_dict: dict[str, Tensor]) -> None:
        # The library unpickles whatever lies in the file it is given; this one holds tensors for certain.
        weights = io.BytesIO()
        torch.save(state_dict, weights)
        weights.seek(0)
        super().__init__(
            name,
            [self._own_names[POOLED], self._own_names[LOGITS]],
            feature_extractor_weights_path=weights,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            maps.append(output)

        hook = self.Mixed_6d.branch1x1.register_forward_hook(keep)
        try:
            pooled, logits = super().forward(x)
        finally:
            hook.remove()
        return pooled, maps[0][:, :SPATIAL_CHANNELS].flatten(1).float(), logits


def feature_extractor(inception: Path | None) -> FeatureExtractorBase:
    """The Inception network of a file, or the bundled one without it; ``get_name()`` tells extractors apart, also two Inception files.

    Raises ``ValueError`` on a file that is not the weights of torch-fidelity's or pytorch-fid's Inception, and ``FileNotFoundError``.
    """
    if inception is None:
        return BundledFeatures()
    content = inception.read_bytes()
    try:
        state_dict = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return InceptionFeatures(f"inception-{hashlib.sha256(content).hexdigest()[:8]}", state_dict)
    except (pickle.UnpicklingError, RuntimeError, AttributeError, TypeError, EOFError):
        raise ValueError(
            f"{inception} does not hold the weights of the Inception network that FID is measured by. Give the file that torch-fidelity "
            "(weights-inception-2015-12-05-6726825d.pth) or pytorch-fid (pt_inception-2015-12-05-6726825d.pth) downloads."
        ) from None

"""The networks whose features images are compared by.

Published FID, sFID, IS, precision and recall use the Inception network of 2015;
``InceptionFeatures`` reads its weights from the file that torch-fidelity or pytorch-fid downloads.
``RandomFeatures`` needs no file: its weights are random, from a fixed seed. Such features can tell
sharp images from blurred ones and one set of images from another (arXiv 2002.09797), but their
numbers are comparable only with each other.
"""

from __future__ import annotations

import hashlib
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_fidelity import FeatureExtractorBase, FeatureExtractorInceptionV3

POOLED, SPATIAL, LOGITS = "pooled", "spatial", "logits"
FEATURES = (POOLED, SPATIAL, LOGITS)
SPATIAL_CHANNELS = 7
"""sFID (arXiv 2103.03841) uses the first seven channels of a middle layer, at all positions."""


class RandomFeatures(FeatureExtractorBase):
    """Convolutions with random orthonormal filters on the image at 64 × 64 pixels.

    Takes uint8 (batch, 3, H, W). Returns ``pooled`` (batch, 230), the mean and std of every
    channel of every layer; ``spatial`` (batch, 7 · 8 · 8) of the last layer; ``logits`` (batch,
    16), a random linear map of ``pooled`` to classes without meaning.
    """

    SIDE = 64
    WIDTHS = (3, 16, 32, 64)
    KERNEL = 5
    GAIN = 2**0.5
    CLASSES = 16
    SEED = 2410

    def __init__(self) -> None:
        super().__init__("random-1", FEATURES)
        # NumPy guarantees that RandomState never changes its numbers; PyTorch does not.
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
        self.classifier = nn.Parameter(
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
        return pooled, x[:, :SPATIAL_CHANNELS].flatten(1), pooled @ self.classifier


class InceptionFeatures(FeatureExtractorInceptionV3):
    """The Inception network of published numbers, with the layer that sFID uses.

    Takes uint8 (batch, 3, H, W) and stretches it to 299 × 299. Returns ``pooled`` (batch, 2048);
    ``spatial`` (batch, 7 · 17 · 17) of the layer that TensorFlow calls mixed_6/conv; ``logits``
    (batch, 1008) without their bias, as the published IS uses them. Checked with torch-fidelity
    0.4.0, whose module ``Mixed_6d.branch1x1`` is that layer.
    """

    _own_names = {POOLED: "2048", LOGITS: "logits_unbiased"}  # noqa: RUF012

    def __init__(self, name: str, state_dict: dict[str, Tensor]) -> None:
        # torch-fidelity unpickles its weights file unsafely, so it gets a re-saved one of tensors.
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
    """The Inception network of a weights file, or the random features without one.

    ``get_name()`` differs between extractors, also between two Inception files. Raises
    ``FileNotFoundError``, and ``ValueError`` on a file that is not the weights of torch-fidelity's
    or pytorch-fid's Inception.
    """
    if inception is None:
        return RandomFeatures()
    content = inception.read_bytes()
    try:
        state_dict = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return InceptionFeatures(f"inception-{hashlib.sha256(content).hexdigest()[:8]}", state_dict)
    except Exception:  # a file that is no weights fails in any way
        raise ValueError(
            f"{inception} does not contain the weights of the Inception network that FID uses. "
            "Give the file that torch-fidelity (weights-inception-2015-12-05-6726825d.pth) or "
            "pytorch-fid (pt_inception-2015-12-05-6726825d.pth) downloads."
        ) from None

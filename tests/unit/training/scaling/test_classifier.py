"""The network whose features compare generated images with drawings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from comfyui_fitv2.pixels import to_bytes
from training.data.vae import TINY, open_vae
from training.evaluate.metrics import feature_statistics, frechet_distance
from training.scaling.classifier import ShapeFeatures, shape_features
from training.scaling.drawn_shapes import CLASSES, Ratios, drawing

PER_CLASS = 8


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> ShapeFeatures:
    """A classifier that has learned from two thirds of a study's drawings."""
    return shape_features(tmp_path_factory.mktemp("classifier") / "c.safetensors", 2000)


def drawings(seed: int, ratio: float, side: int = 128) -> torch.Tensor:
    """Some of each class, at least as wide as high, of one size, uint8 (drawings, 3, H, W)."""
    width, height = (round(side * ratio**e / 16) * 16 for e in (0.5, -0.5))
    random = np.random.default_rng(seed)
    images = []
    for name in CLASSES * PER_CLASS:
        image = Image.new("RGB", (1, 2))
        while image.width < image.height:
            image = drawing(name, side, Ratios(least=ratio, most=ratio), random)
        images.append(np.asarray(image.resize((width, height), Image.Resampling.BOX)))
    return torch.from_numpy(np.stack(images)).movedim(-1, 1).contiguous()


LABELS = torch.arange(len(CLASSES)).repeat(PER_CLASS)


def reconstructed(images: torch.Tensor) -> torch.Tensor:
    decoded = open_vae(TINY).reconstruct(images / 255)
    return torch.from_numpy(to_bytes(decoded)).movedim(-1, 1)


def blurred(images: torch.Tensor) -> torch.Tensor:
    return filtered(images, ImageFilter.GaussianBlur(8))


def blobs(images: torch.Tensor) -> torch.Tensor:
    """The colours of the drawings at other places, run together."""
    cells = images.unflatten(2, (-1, 16)).unflatten(4, (-1, 16)).transpose(3, 4)
    order = np.random.default_rng(0).permutation(cells.shape[2])
    columns = np.random.default_rng(1).permutation(cells.shape[3])
    mixed = cells[:, :, order][:, :, :, columns].transpose(3, 4).flatten(4).flatten(2, 3)
    return filtered(mixed, ImageFilter.GaussianBlur(5))


def filtered(images: torch.Tensor, effect: ImageFilter.Filter) -> torch.Tensor:
    pixels = [Image.fromarray(i.movedim(0, -1).numpy()).filter(effect) for i in images]
    return torch.from_numpy(np.stack([np.asarray(i) for i in pixels])).movedim(-1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1.0, 3.0])
def test_reconstructions_are_near_and_blobs_are_far(network: ShapeFeatures, ratio: float) -> None:
    reference, others = drawings(1, ratio), drawings(2, ratio)
    expected = feature_statistics(network(reference)[0])
    distances, right = {}, {}
    for name, images in {
        "others": others,
        "reconstructed": reconstructed(others),
        "blurred": blurred(others),
        "blobs": blobs(others),
    }.items():
        features, _, logits = network(images)
        distances[name] = frechet_distance(feature_statistics(features), expected)
        right[name] = float((logits.argmax(1) == LABELS).float().mean())
    assert distances["reconstructed"] < 3 * distances["others"]
    assert distances["blurred"] > 2 * distances["reconstructed"]
    assert distances["blobs"] > 20 * distances["reconstructed"]
    assert right["others"] > 0.9
    assert right["reconstructed"] > 0.9
    assert right["blobs"] < right["others"] - 0.3


@pytest.mark.slow
def test_the_same_drawings_train_the_same_network(tmp_path: Path) -> None:
    one, other = (shape_features(tmp_path / name, 96) for name in ("one", "other"))
    assert one.get_name() == other.get_name()
    assert shape_features(tmp_path / "one", 96).get_name() == one.get_name()
    assert shape_features(tmp_path / "third", 120).get_name() != one.get_name()

"""Crops are sampled where the error is."""

import numpy as np
import torch

from training.train_vae.crops import TiledImages


def test_crops_come_mostly_from_where_the_error_is() -> None:
    tiles = TiledImages([torch.full((3, 64, 64), value, dtype=torch.uint8) for value in (0, 255)])
    tiles.errors[:] = 1e-6
    tiles.errors[len(tiles.errors) // 2 :] = 1.0  # those of the second image
    _, crops = tiles.sample(400, 32, np.random.default_rng(0))
    white = (crops.mean((1, 2, 3)) > 0.5).float().mean().item()
    assert 0.8 < white < 0.95  # a quarter is sampled evenly


def test_a_crop_lies_within_its_image_around_its_tile() -> None:
    ramp = torch.arange(160).expand(3, 128, 160).to(torch.uint8)
    indices, crops = TiledImages([ramp]).sample(64, 64, np.random.default_rng(0))
    left = (crops[:, 0, 0, 0] * 255).round()
    assert crops.shape == (64, 3, 64, 64)
    assert ((left >= 0) & (left <= 96)).all()
    assert torch.unique(left).numel() > 10
    assert set(indices) <= set(range(16))

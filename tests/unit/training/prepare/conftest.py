"""Twelve images, and ``prepare`` on them, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.image_files import draw_bar
from support.old_sets import OldSet
from support.pooling_vae import PoolingVAE

from training import prepare as module
from training.prepare import PrepareOptions, prepare

SIZES = ((100, 60), (60, 100), (48, 48), (130, 40))
COLOURS = {"blue": (0, 60, 160), "green": (0, 120, 60), "red": (200, 20, 30)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """12 images of 3 classes and 4 sizes."""
    for name, colour in COLOURS.items():
        for i, size in enumerate(SIZES):
            draw_bar(tmp_path / "photos" / name / f"{i}.png", size, colour)
    return tmp_path / "photos"


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Callable[..., Path]:
    """Prepare ``photos`` at an image size of 64 into a folder of this name."""

    def run(name: str, **changes: Any) -> Path:
        options = {
            "images": photos,
            "image_size": 64,
            "batch_size": 2,
            "shard_size": 5,
            "workers": 0,
            "device": "cpu",
            **changes,
        }
        prepare(PrepareOptions(output=tmp_path / name, **options))
        return tmp_path / name

    return run


@pytest.fixture
def vae(monkeypatch: pytest.MonkeyPatch) -> PoolingVAE:
    """The VAE of all runs. Nothing but the images of the set passes through it."""
    vae = PoolingVAE()
    monkeypatch.setattr(module, "open_vae", lambda *_: vae)
    monkeypatch.setattr(module, "measure_reconstruction", lambda *_: None)
    return vae


@pytest.fixture
def old_set(tmp_path: Path) -> OldSet:
    """A copy of the latent set that an older version wrote."""
    return OldSet(tmp_path / "old")

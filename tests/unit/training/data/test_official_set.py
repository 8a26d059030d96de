"""``training.data.official_set``: the latent folders of the official releases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from comfyui_fitv2.metadata import SD_LATENT_FORMAT
from training.data import open_latent_set
from training.data.latent_set import LatentSetError


def official_file(path: Path, grid: tuple[int, int], label: int) -> torch.Tensor:
    """A file of the official layout with random latents, which are returned: (2, 4, H, W)."""
    rows, columns = grid
    latents = torch.randn(2, 4, 2 * rows, 2 * columns)
    tokens = torch.empty(2, rows, columns, 16)
    for row in range(rows):
        for column in range(columns):  # channels of a token in the order (c p1 p2)
            tokens[:, row, column] = latents[
                :, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2
            ].reshape(2, 16)
    path.parent.mkdir(parents=True, exist_ok=True)
    positions = torch.zeros(2, rows * columns)
    save_file(
        {
            "feature": tokens,
            "grid": positions,
            "size": torch.tensor(grid),
            "label": torch.tensor(label),
        },
        path,
    )
    return latents


def test_the_official_layout_is_read(tmp_path: Path) -> None:
    small = official_file(tmp_path / "from_16_to_256" / "n1.safetensors", (3, 2), 7)
    resized = official_file(tmp_path / "greater_than_256_resize" / "n2.safetensors", (2, 5), 999)
    cropped = official_file(tmp_path / "greater_than_256_crop" / "n2.safetensors", (4, 4), 999)
    official_file(tmp_path / "greater_than_256_resize" / "n3.safetensors", (1, 6), 0)
    latents = open_latent_set(tmp_path)
    assert latents.class_ids.tolist() == [7, 999, 0]
    assert latents.grids.tolist() == [[[3, 2], [3, 2]], [[2, 5], [4, 4]], [[1, 6], [1, 6]]]
    assert (len(latents.info.class_names), latents.info.channels, latents.info.image_size) == (
        1000,
        4,
        256,
    )
    assert latents.info.latent_format == SD_LATENT_FORMAT
    for index, is_cropped, expected in (
        (0, False, small),
        (0, True, small),
        (1, False, resized),
        (1, True, cropped),
    ):
        for flipped in (False, True):
            mean, std = latents.moments(index, is_cropped, flipped)
            assert torch.equal(mean, expected[int(flipped)])
            assert not std.any()


def test_the_official_layout_of_512_pixels_is_read(tmp_path: Path) -> None:
    official_file(tmp_path / "from_16_to_1024" / "n1.safetensors", (30, 30), 1)
    assert open_latent_set(tmp_path).info.image_size == 512


def test_incomplete_official_sets_are_refused(tmp_path: Path) -> None:
    official_file(tmp_path / "greater_than_256_crop" / "n2.safetensors", (4, 4), 9)
    with pytest.raises(LatentSetError, match="1 files are not in greater_than_256_resize"):
        open_latent_set(tmp_path)
    official_file(tmp_path / "greater_than_256_resize" / "n2.safetensors", (4, 4), 1000)
    with pytest.raises(LatentSetError, match="labels from 1000 to 1000"):
        open_latent_set(tmp_path)
    (tmp_path / "greater_than_256_resize" / "n2.safetensors").write_bytes(b"nothing")
    with pytest.raises(LatentSetError, match="not a safetensors file with feature and label"):
        open_latent_set(tmp_path)

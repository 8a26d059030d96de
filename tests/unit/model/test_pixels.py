"""Image tensors to 8-bit arrays and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from comfyui_fitv2.pixels import from_bytes, psnr, to_bytes


def test_every_level_survives_the_way_there_and_back() -> None:
    levels = np.arange(256 * 3, dtype=np.uint8).reshape(1, 16, 16, 3)
    images = from_bytes(levels)
    assert images.shape == (1, 3, 16, 16)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    assert np.array_equal(to_bytes(images), levels)


def test_channels_are_last_in_arrays_and_first_in_tensors() -> None:
    image = torch.zeros(3, 2, 4)
    image[1, 0, 3] = 1.0
    array = to_bytes(image)
    assert array.shape == (2, 4, 3)
    assert array[0, 3].tolist() == [0, 255, 0]
    assert torch.equal(from_bytes(array), image)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_values_are_rounded_and_clamped(dtype: torch.dtype) -> None:
    image = torch.tensor([-3.0, 0.501, 1.5], dtype=dtype).view(3, 1, 1)
    assert to_bytes(image).ravel().tolist() == [0, 128, 255]


@pytest.mark.filterwarnings("error")
def test_a_read_only_array_is_copied() -> None:
    array = np.full((2, 2, 3), 255, np.uint8)
    array.flags.writeable = False
    image = from_bytes(array)
    image.zero_()
    assert (array == 255).all()


def test_psnr_is_in_decibels_and_ends_at_100() -> None:
    image = torch.full((3, 4, 4), 0.5)
    assert psnr(image + 0.1, image) == pytest.approx(20)
    assert psnr(image, image) == pytest.approx(100)

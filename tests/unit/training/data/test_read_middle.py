"""The middle part of an image, as reference images are read: upright, in full colour, to size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.decode import read_middle


def test_the_middle_has_the_shape_of_the_size_and_is_upright_and_in_full_colour(
    tmp_path: Path,
) -> None:
    thirds = np.zeros((30, 90, 3), np.uint8)
    thirds[:, :30, 0] = thirds[:, 30:60, 1] = thirds[:, 60:, 2] = 255
    Image.fromarray(thirds).save(tmp_path / "thirds.png")
    middle, enlarged = read_middle(tmp_path / "thirds.png", 32, 32)
    assert middle.shape == (32, 32, 3)
    assert enlarged
    assert (middle[:, 4:-4] == [0, 255, 0]).all()
    whole, enlarged = read_middle(tmp_path / "thirds.png", 48, 16)
    assert not enlarged
    assert (whole[0, [0, 24, 47]] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the first column is the top row
    Image.fromarray(thirds).save(tmp_path / "turned.png", exif=exif)
    upright, _ = read_middle(tmp_path / "turned.png", 16, 48)
    assert (upright[[0, 24, 47], 0] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]).all()


@pytest.mark.parametrize("side", [48, 160, 208, 1000])
@pytest.mark.parametrize("width", [49, 333, 1023])
def test_no_rounding_cuts_beyond_an_image(tmp_path: Path, side: int, width: int) -> None:
    Image.new("RGB", (width, 97)).save(tmp_path / "p.png")
    assert read_middle(tmp_path / "p.png", side, 16)[0].shape == (16, side, 3)

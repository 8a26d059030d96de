"""``training.prepare.preview_colours``: fitted to the images as they were when encoded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.old_sets import OldSet

from comfyui_fitv2.pixels import from_bytes
from comfyui_fitv2.preview import fit_latent_format, preview
from training.data import open_latent_set
from training.data.decode import read_versions
from training.data.shards import EncodedExample, read_shard, write_shard
from training.prepare.preview_colours import (
    PreviewColoursError,
    colour_sums,
    fit_preview_colours,
    shards_to_fit,
)
from training.prepare.set_folder import SetFolder


def test_the_preview_colours_of_a_set_are_those_of_its_images(
    run: Callable[..., Path], photos: Path
) -> None:
    latents = open_latent_set(run("latents"))
    mean, _ = latents.moments(8, cropped=False, flipped=False)
    guess = preview(mean[None], latents.info.latent_format)[0]
    image = from_bytes(read_versions(photos / "red" / "0.png", 64)[0].copy())
    assert (guess - image).abs().mean() < 0.06


def test_they_are_the_least_squares_fit_to_the_images(
    run: Callable[..., Path], photos: Path
) -> None:
    rng = np.random.default_rng(0)
    for file in photos.glob("*/*.png"):  # noise, so that the solution is unique
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((64, 48)).save(file)
    folder = run("latents")
    latents = open_latent_set(folder)
    means = [latents.moments(i, False, False)[0].double() for i in range(12)]
    files = [file for n in range(3) for file in read_shard(folder, n)["file"].to_pylist()]
    images = [from_bytes(read_versions(photos / f, 64)[0].copy()).double() for f in files]
    fitted = fit_latent_format(torch.stack(means), torch.stack(images) * 2 - 1, scale_factor=1.0)
    found, expected = (
        torch.tensor(latent_format.latent_rgb_factors)
        for latent_format in (latents.info.latent_format, fitted)
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_they_need_no_image_a_second_time(run: Callable[..., Path], photos: Path) -> None:
    folder = run("latents")
    before = open_latent_set(folder).info
    (folder / "latent_set.json").unlink()
    for file in photos.glob("*/*.png"):  # of the same size and time: nothing seems to be replaced
        was = file.stat()
        file.write_bytes(bytes(was.st_size))
        os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert open_latent_set(run("latents")).info == before
    assert before.latent_format.latent_rgb_factors is not None


def test_128_examples_spread_over_a_set_have_colours() -> None:
    assert shards_to_fit(range(3)) == [0, 1, 2]
    assert shards_to_fit(range(160)) == list(range(0, 160, 10))


@pytest.mark.parametrize(
    ("channels", "colours", "message"),
    [
        (4, None, "its shards were written by an older version, without colours"),
        (7, np.zeros((3, 2, 2), np.uint16), "latents of at most 6 channels; these have 7"),
    ],
)
def test_the_reason_is_given_where_there_can_be_none(
    tmp_path: Path, channels: int, colours: np.ndarray | None, message: str
) -> None:
    example = EncodedExample("a.png", 0, torch.zeros(1, 1, channels, 2, 2), None, colours)
    write_shard(tmp_path, 0, [example])
    with pytest.raises(PreviewColoursError, match=message):
        fit_preview_colours(SetFolder(tmp_path), [0], channels, scale_factor=1.0)


def test_a_set_without_colours_says_so(old_set: OldSet, capsys: pytest.CaptureFixture[str]) -> None:
    folder = old_set.resume("latent_set.json")
    assert f"{folder} gets no preview colours: its shards were" in capsys.readouterr().err
    assert open_latent_set(folder).info.latent_format.latent_rgb_factors is None


def test_colour_sums_are_those_of_the_pixels_of_a_latent() -> None:
    image = np.zeros((16, 24, 3), np.uint8)
    image[8:, 16:] = (255, 1, 0)
    sums = colour_sums(image)
    assert sums.dtype == np.uint16
    assert sums.tolist() == [
        [[0, 0, 0], [0, 0, 255 * 64]],
        [[0, 0, 0], [0, 0, 64]],
        [[0, 0, 0], [0, 0, 0]],
    ]

"""``training.prepare.plan``: a set belongs to its options; no others resume it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.image_files import contents
from support.old_sets import OldSet

from training.data import open_latent_set
from training.prepare.plan import images_per_shard
from training.prepare.set_folder import PLAN_FILE
from training.whole_files import OutputFolderError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 128}, r"\(image-size: 64 → 128\)"),
        ({"flip": False}, r"\(flip: True → False\)"),
        (
            {"precision": "bf16", "batch_size": 4},
            r"\(precision: fp32 → bf16; batch-size: 2 → 4\)",
        ),
    ],
)
def test_changed_options_are_refused_by_name(
    run: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    run("latents")
    with pytest.raises(OutputFolderError, match=message):
        run("latents", **change)


def test_a_folder_of_other_files_is_not_written_to(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputFolderError, match="not empty"):
        run("latents")
    assert contents(tmp_path / "latents") == {"thesis.txt": b"mine"}


def test_a_run_that_was_ended_before_its_list_of_images_resumes(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    whole = contents(run("whole"))
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / PLAN_FILE).write_bytes(whole[PLAN_FILE])
    assert contents(run("latents")) == whole


def test_an_unfinished_set_of_an_older_version_resumes(old_set: OldSet) -> None:
    latents = open_latent_set(old_set.resume("latent_set.json", "shard-000001.arrow"))
    assert len(latents) == 5
    for key, expected in load_file(old_set.moments).items():
        index, version, view = key.split("/")
        mean, _ = latents.moments(int(index), version == "cropped", view == "flipped")
        torch.testing.assert_close(mean, expected, atol=0.01, rtol=0.01)
    assert latents.info.latent_format.latent_rgb_factors is not None


@pytest.mark.parametrize(
    ("images", "image_size", "flip", "expected"),
    [
        (12, 256, True, 64),
        (100_000, 256, True, 1563),
        (1_281_167, 256, True, 4096),
        (1_281_167, 256, False, 8192),
        (1_281_167, 512, True, 1024),
        (1_281_167, 4096, True, 64),
        (67_000_000, 256, True, 4096),
    ],
)
def test_shards_are_sized_by_their_bytes(
    images: int, image_size: int, flip: bool, expected: int
) -> None:
    settings = {"image-size": image_size, "flip": flip}
    assert images_per_shard(images, settings) == expected

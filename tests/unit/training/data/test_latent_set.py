"""``training.data.latent_set`` and ``open_latent_set``: sets of every layout, old ones too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.latent_sets import make_latent_set

from comfyui_fitv2.metadata import LatentFormat
from training.data import open_latent_set
from training.data.latent_set import LatentSetError, LatentSetInfo

OLD = Path(__file__).parents[3] / "golden" / "91ff81d"
INFO = LatentSetInfo(
    class_names=("cat", "dog"),
    channels=1,
    image_size=64,
    latent_format=LatentFormat(0.5, [[1.0, 0.0, 0.5]], [0.0, 0.1, 0.2]),
    vae="tiny",
    flips=False,
    posterior=True,
)


def test_a_set_of_an_older_version_reads_the_same() -> None:
    latents = open_latent_set(OLD / "latents")
    for key, expected in load_file(OLD / "latents.safetensors").items():
        index, version, view = key.split("/")
        mean, std = latents.moments(int(index), version == "cropped", view == "flipped")
        assert torch.equal(mean, expected)
        assert not std.any()
    assert latents.class_ids.tolist() == [0, 0, 1, 1, 1]
    assert (latents.info.class_names, latents.info.image_size) == (("circle", "stripe"), 32)
    assert latents.info.latent_format.preview_kind == "products"


def test_lengths_are_the_tokens_of_both_versions(tmp_path: Path) -> None:
    folder = make_latent_set(tmp_path, [(2, 3), (4, 1)], classes=1, crop=(5, 5))
    assert open_latent_set(str(folder)).lengths.tolist() == [[6, 6], [4, 25]]


@pytest.mark.parametrize(
    "info", [INFO, replace(INFO, latent_format=LatentFormat(1.0), flips=True, posterior=False)]
)
def test_what_a_set_says_of_itself_survives_json(info: LatentSetInfo) -> None:
    content = json.loads(json.dumps(info.to_dict()))
    assert LatentSetInfo.from_dict(content) == info
    # The names that files have had since the first version.
    assert list(content) == [
        "class_names",
        "channels",
        "resolution",
        "latent_format",
        "vae",
        "flips",
        "posterior",
    ]


def test_other_folders_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(LatentSetError, match="no such folder"):
        open_latent_set(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LatentSetError, match="a file, not the folder of a latent set"):
        open_latent_set(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LatentSetError, match=r"no latent_set\.json\. python -m training\.prepare"):
        open_latent_set(tmp_path / "empty")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "not finished: run the same prepare command again"),
        (lambda text: text[:50], "damaged"),
        (lambda text: text.replace('"channels"', '"colour"'), "damaged"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "newer version"),
    ],
    ids=["missing", "cut", "unknown key", "newer"],
)
def test_a_set_without_a_usable_description_is_refused(
    tmp_path: Path, change: Callable[[str], str] | None, message: str
) -> None:
    file = shutil.copytree(OLD / "latents", tmp_path / "latents") / "latent_set.json"
    if change is None:
        file.unlink()
    else:
        file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(LatentSetError, match=message):
        open_latent_set(tmp_path / "latents")

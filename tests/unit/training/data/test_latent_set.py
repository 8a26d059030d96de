from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file
from support.latent_sets import make_latent_set

from training.data.latent_set import (
    EncodedPicture,
    LatentSet,
    LatentSetError,
    LatentSetInfo,
    finish,
    shard_failures,
    write_shard,
)

INFO = LatentSetInfo(
    ("cat", "dog"),
    channels=4,
    resolution=64,
    latent_format={"scale_factor": 0.5},
    vae="tiny",
    flips=True,
    posterior=True,
)


def picture(
    name: str,
    label: int,
    grid: tuple[int, int],
    crop: tuple[int, int] | None = None,
    flips: int = 2,
    moments: int = 2,
) -> EncodedPicture:
    def version(size: tuple[int, int]) -> torch.Tensor:
        return torch.randn(flips, moments, 4, size[0] * 2, size[1] * 2).half()

    return EncodedPicture(name, label, version(grid), version(crop) if crop else None)


@pytest.fixture
def pictures(tmp_path: Path) -> list[EncodedPicture]:
    """Two shards of pictures, written to ``tmp_path / "set"``."""
    pictures = [
        picture("cat/a.png", 0, (2, 3)),
        picture("dog/b.png", 1, (3, 2), (4, 4)),
        picture("dog/c.png", 1, (1, 5)),
    ]
    folder = tmp_path / "set"
    folder.mkdir()
    write_shard(folder, 0, pictures[:2], {"cat/broken.png": "truncated"})
    write_shard(folder, 1, pictures[2:])
    finish(folder, INFO, shards=2)
    return pictures


def test_moments_come_back_as_they_were_written(
    pictures: list[EncodedPicture], tmp_path: Path
) -> None:
    latents = LatentSet.open(tmp_path / "set")
    for index, written in enumerate(pictures):
        for flipped in (False, True):
            mean, deviation = latents.moments(index, cropped=False, flipped=flipped)
            assert mean.dtype == deviation.dtype == torch.float32
            assert torch.equal(
                torch.stack([mean, deviation]), written.resized[int(flipped)].float()
            )
    assert pictures[1].cropped is not None
    assert torch.equal(
        torch.stack(latents.moments(1, cropped=True, flipped=True)), pictures[1].cropped[1].float()
    )


def test_a_set_knows_its_pictures(pictures: list[EncodedPicture], tmp_path: Path) -> None:
    latents = LatentSet.open(str(tmp_path / "set"))
    assert len(latents) == len(pictures) == 3
    assert latents.info == INFO
    assert latents.labels.tolist() == [0, 1, 1]
    assert latents.labels.dtype == np.int64
    assert latents.grids.tolist() == [[[2, 3], [2, 3]], [[3, 2], [4, 4]], [[1, 5], [1, 5]]]


def test_a_picture_without_a_crop_gives_the_resized_one(
    pictures: list[EncodedPicture], tmp_path: Path
) -> None:
    latents = LatentSet.open(tmp_path / "set")
    assert torch.equal(
        latents.moments(0, cropped=True, flipped=False)[0], pictures[0].resized[0, 0].float()
    )


def test_a_set_without_flips_or_posterior_gives_plain_means(tmp_path: Path) -> None:
    latents = LatentSet.open(make_latent_set(tmp_path, flips=False, posterior=False))
    plain, deviation = latents.moments(1, cropped=False, flipped=False)
    assert torch.equal(plain, latents.moments(1, cropped=False, flipped=True)[0])
    assert not deviation.any()
    assert deviation.shape == plain.shape


def test_moments_are_the_readers_own(tmp_path: Path) -> None:
    latents = LatentSet.open(make_latent_set(tmp_path))
    mean, _ = latents.moments(0, cropped=False, flipped=False)
    before = mean.clone()
    mean.zero_()
    assert torch.equal(latents.moments(0, cropped=False, flipped=False)[0], before)


def test_copies_for_other_processes_carry_no_latents(tmp_path: Path) -> None:
    latents = LatentSet.open(make_latent_set(tmp_path, sizes=[(16, 16)], per_class=20))
    content = pickle.dumps(latents)
    assert len(content) < 16_000
    copy = pickle.loads(content)
    assert torch.equal(copy.moments(7, False, True)[0], latents.moments(7, False, True)[0])


def test_the_datasets_library_reads_a_shard(pictures: list[EncodedPicture], tmp_path: Path) -> None:
    shard = Dataset.from_file(str(tmp_path / "set" / "shard-000000.arrow"))
    assert shard["file"][:] == ["cat/a.png", "dog/b.png"]
    values = torch.tensor(shard.with_format("numpy")[1]["resized"].astype(np.float32))
    assert torch.equal(values.view(2, 2, 4, 6, 4), pictures[1].resized.float())


def test_a_shard_tells_what_failed(pictures: list[EncodedPicture], tmp_path: Path) -> None:
    assert len(pictures) == 3
    assert shard_failures(tmp_path / "set", 0) == {"cat/broken.png": "truncated"}
    assert shard_failures(tmp_path / "set", 1) == {}


def test_a_shard_of_failures_alone_is_skipped(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [], {"a.png": "empty"})
    write_shard(tmp_path, 1, [picture("b.png", 1, (2, 2))])
    finish(tmp_path, INFO, shards=2)
    assert LatentSet.open(tmp_path).labels.tolist() == [1]


def test_equal_pictures_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_latent_set(tmp_path / name, seed=3)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == ["latent_set.json", "shard-000000.arrow", "shard-000001.arrow"]
    assert all(
        (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        for name in files
    )


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    broken = EncodedPicture("a.png", 0, torch.zeros(2, 2, 4, 4, 4), torch.zeros(3))
    with pytest.raises(IndexError):
        write_shard(tmp_path, 0, [broken])
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_no_complete_set_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(LatentSetError, match="no such folder"):
        LatentSet.open(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        LatentSetError, match=r"no latent_set\.json in it\. python -m training\.prepare makes one"
    ):
        LatentSet.open(tmp_path / "empty")
    folder = make_latent_set(tmp_path / "set")
    info = (folder / "latent_set.json").read_text(encoding="utf-8")
    (folder / "latent_set.json").unlink()
    with pytest.raises(LatentSetError, match="not finished: run the same prepare command again"):
        LatentSet.open(folder)
    (folder / "latent_set.json").write_text(info[:50], encoding="utf-8")
    with pytest.raises(LatentSetError, match="damaged"):
        LatentSet.open(folder)
    (folder / "latent_set.json").write_text(
        json.dumps({**json.loads(info), "format": 99}), encoding="utf-8"
    )
    with pytest.raises(LatentSetError, match="newer version"):
        LatentSet.open(folder)


def test_missing_and_damaged_shards_are_named(tmp_path: Path) -> None:
    folder = make_latent_set(tmp_path)
    shard = folder / "shard-000001.arrow"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(
        LatentSetError, match=r"1 of its 2 shards are gone, such as shard-000001\.arrow"
    ):
        LatentSet.open(folder)
    shard.write_bytes(content[:2000])
    with pytest.raises(LatentSetError, match=r"shard-000001\.arrow: not a readable Arrow file"):
        LatentSet.open(folder)


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
    latents = LatentSet.open(tmp_path)
    assert latents.labels.tolist() == [7, 999, 0]
    assert latents.grids.tolist() == [[[3, 2], [3, 2]], [[2, 5], [4, 4]], [[1, 6], [1, 6]]]
    assert (len(latents.info.class_names), latents.info.channels, latents.info.resolution) == (
        1000,
        4,
        256,
    )
    assert latents.info.latent_format == {"scale_factor": 0.18215}
    for index, is_cropped, expected in (
        (0, False, small),
        (0, True, small),
        (1, False, resized),
        (1, True, cropped),
    ):
        for flipped in (False, True):
            mean, deviation = latents.moments(index, is_cropped, flipped)
            assert torch.equal(mean, expected[int(flipped)])
            assert not deviation.any()


def test_the_official_layout_of_512_pixels_is_read(tmp_path: Path) -> None:
    official_file(tmp_path / "from_16_to_1024" / "n1.safetensors", (30, 30), 1)
    assert LatentSet.open(tmp_path).info.resolution == 512


def test_incomplete_official_sets_are_refused(tmp_path: Path) -> None:
    official_file(tmp_path / "greater_than_256_crop" / "n2.safetensors", (4, 4), 9)
    with pytest.raises(LatentSetError, match="1 files are not in greater_than_256_resize"):
        LatentSet.open(tmp_path)
    official_file(tmp_path / "greater_than_256_resize" / "n2.safetensors", (4, 4), 1000)
    with pytest.raises(LatentSetError, match="labels from 1000 to 1000"):
        LatentSet.open(tmp_path)
    (tmp_path / "greater_than_256_resize" / "n2.safetensors").write_bytes(b"nothing")
    with pytest.raises(LatentSetError, match="not a safetensors file with feature and label"):
        LatentSet.open(tmp_path)

"""``training.data.arrow_set``: what is written to shards is what is read from them."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset
from support.latent_sets import make_latent_set

from comfyui_fitv2.metadata import LatentFormat
from training.data import arrow_set, open_latent_set
from training.data.latent_set import LatentSetError, LatentSetInfo, data_digest
from training.data.set_parts import finish
from training.data.shards import EncodedExample, read_rows, read_shard, write_shard

ROOT = Path(__file__).parents[4]
INFO = LatentSetInfo(
    class_names=("cat", "dog"),
    channels=4,
    image_size=64,
    latent_format=LatentFormat(0.5),
    vae="tiny",
    flips=True,
    posterior=True,
)


def example(
    file: str, class_id: int, grid: tuple[int, int], crop: tuple[int, int] | None = None
) -> EncodedExample:
    def version(size: tuple[int, int]) -> torch.Tensor:
        return torch.randn(2, 2, 4, size[0] * 2, size[1] * 2).half()

    return EncodedExample(file, class_id, version(grid), version(crop) if crop else None)


def as_older_version(folder: Path) -> None:
    """Make the set one without an index and checksums."""
    file = folder / "latent_set.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    for name in ("index", "shard_files"):
        del content[name]
    content |= {"format": 1, "shards": len(content["shards"])}
    file.write_text(json.dumps(content), encoding="utf-8")
    for path in [*folder.glob("index-*"), *folder.glob("rows-*")]:
        path.unlink()


@pytest.fixture
def examples(tmp_path: Path) -> list[EncodedExample]:
    """Two shards of examples, written to ``tmp_path / "set"``."""
    examples = [
        example("cat/a.png", 0, (2, 3)),
        example("dog/b.png", 1, (3, 2), (4, 4)),
        example("dog/c.png", 1, (1, 5)),
    ]
    folder = tmp_path / "set"
    folder.mkdir()
    write_shard(folder, 0, examples[:2], {"cat/broken.png": "truncated"})
    write_shard(folder, 1, examples[2:])
    finish(folder, INFO, shards=2)
    return examples


def test_moments_come_back_as_they_were_written(
    examples: list[EncodedExample], tmp_path: Path
) -> None:
    latents = open_latent_set(tmp_path / "set")
    for index, written in enumerate(examples):
        for flipped in (False, True):
            mean, std = latents.moments(index, cropped=False, flipped=flipped)
            assert mean.dtype == std.dtype == torch.float32
            assert torch.equal(torch.stack([mean, std]), written.resized[int(flipped)].float())
    assert examples[1].cropped is not None
    cropped = torch.stack(latents.moments(1, cropped=True, flipped=True))
    assert torch.equal(cropped, examples[1].cropped[1].float())


def test_a_set_knows_its_examples(examples: list[EncodedExample], tmp_path: Path) -> None:
    latents = open_latent_set(tmp_path / "set")
    assert len(latents) == len(examples) == 3
    assert latents.info == INFO
    assert latents.class_ids.tolist() == [0, 1, 1]
    assert latents.grids.tolist() == [[[2, 3], [2, 3]], [[3, 2], [4, 4]], [[1, 5], [1, 5]]]


def test_an_example_without_a_crop_gives_the_resized_version(
    examples: list[EncodedExample], tmp_path: Path
) -> None:
    mean, _ = open_latent_set(tmp_path / "set").moments(0, cropped=True, flipped=False)
    assert torch.equal(mean, examples[0].resized[0, 0].float())


def test_a_set_without_flips_or_posterior_gives_plain_means(tmp_path: Path) -> None:
    latents = open_latent_set(make_latent_set(tmp_path, flips=False, posterior=False))
    plain, std = latents.moments(1, cropped=False, flipped=False)
    assert torch.equal(plain, latents.moments(1, cropped=False, flipped=True)[0])
    assert not std.any()
    assert std.shape == plain.shape


def test_rows_are_found_in_all_batches_and_shards(tmp_path: Path) -> None:
    """A shard is written in batches of 64 rows."""
    written = [example(f"{i}.png", i % 2, (1, 1)) for i in range(150)]
    write_shard(tmp_path, 0, written[:130])
    write_shard(tmp_path, 1, [])
    write_shard(tmp_path, 2, written[130:])
    finish(tmp_path, INFO, shards=3)
    latents = open_latent_set(tmp_path)
    assert len(latents) == 150
    for index in (0, 63, 64, 127, 128, 129, 130, 149):
        mean, _ = latents.moments(index, cropped=False, flipped=False)
        assert torch.equal(mean, written[index].resized[0, 0].float())


def test_moments_belong_to_their_reader(tmp_path: Path) -> None:
    latents = open_latent_set(make_latent_set(tmp_path))
    mean, _ = latents.moments(0, cropped=False, flipped=False)
    before = mean.clone()
    mean.zero_()
    assert torch.equal(latents.moments(0, cropped=False, flipped=False)[0], before)


def test_copies_for_other_processes_carry_no_latents(tmp_path: Path) -> None:
    latents = open_latent_set(make_latent_set(tmp_path, sizes=[(16, 16)], per_class=20))
    content = pickle.dumps(latents)
    assert len(content) < 2500
    copy = pickle.loads(content)
    assert torch.equal(copy.moments(7, False, True)[0], latents.moments(7, False, True)[0])


@pytest.mark.processes
def test_shards_need_only_pyarrow_to_be_read(tmp_path: Path) -> None:
    folder = make_latent_set(tmp_path)
    script = (
        "import sys; sys.modules['datasets'] = None; from training.data import open_latent_set; "
        f"print(len(open_latent_set({str(folder)!r})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert run.stdout == "9\n"


def test_the_datasets_library_reads_a_shard(examples: list[EncodedExample], tmp_path: Path) -> None:
    shard = Dataset.from_file(str(tmp_path / "set" / "shard-000000.arrow"))
    assert shard["file"][:] == ["cat/a.png", "dog/b.png"]
    values = torch.tensor(shard.with_format("numpy")[1]["resized"].astype(np.float32))
    assert torch.equal(values.view(2, 2, 4, 6, 4), examples[1].resized.float())


def test_colours_are_stored_with_the_examples_that_have_them(tmp_path: Path) -> None:
    plain = example("a.png", 0, (1, 1))
    colours = np.arange(12, dtype=np.uint16).reshape(3, 2, 2) * 1360
    coloured = EncodedExample("b.png", 0, plain.resized, None, colours)
    write_shard(tmp_path, 0, [plain, coloured])
    assert read_shard(tmp_path, 0)["colours"].to_pylist() == [None, colours.ravel().tolist()]


def test_a_shard_has_the_reasons_of_what_failed(
    examples: list[EncodedExample], tmp_path: Path
) -> None:
    assert len(examples) == 3
    assert read_rows(tmp_path / "set", 0).failures == {"cat/broken.png": "truncated"}
    assert read_rows(tmp_path / "set", 1).failures == {}


def test_a_shard_with_only_failures_is_skipped(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [], {"a.png": "empty"})
    write_shard(tmp_path, 1, [example("b.png", 1, (2, 2))])
    finish(tmp_path, INFO, shards=2)
    assert open_latent_set(tmp_path).class_ids.tolist() == [1]


def test_equal_examples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_latent_set(tmp_path / name, seed=3)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    index, *others = files
    assert index.startswith("index-")
    assert others == [
        "latent_set.json",
        *(f"{kind}-00000{number}.arrow" for kind in ("rows", "shard") for number in (0, 1)),
    ]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    broken = EncodedExample("a.png", 0, torch.zeros(2, 2, 4, 4, 4), torch.zeros(3))
    with pytest.raises(IndexError):
        write_shard(tmp_path, 0, [broken])
    assert list(tmp_path.iterdir()) == []


def test_missing_and_damaged_shards_are_named(tmp_path: Path) -> None:
    folder = make_latent_set(tmp_path)
    shard = folder / "shard-000001.arrow"
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(
        LatentSetError, match=r"1 of its 2 shards are missing, such as shard-000001\.arrow"
    ):
        open_latent_set(folder)
    shard.write_bytes(content[:2000])
    with pytest.raises(LatentSetError, match=r"shard-000001\.arrow: it has 2,000 bytes, not the"):
        open_latent_set(folder)
    as_older_version(folder)
    with pytest.raises(LatentSetError, match=r"shard-000001\.arrow: not a readable Arrow file"):
        open_latent_set(folder)
    shard.write_bytes((folder / "shard-000000.arrow").read_bytes())
    with pytest.raises(LatentSetError, match="its shards hold 10 examples, not the 9"):
        open_latent_set(folder)


def test_a_shard_of_another_set_is_noticed_when_it_is_read(
    examples: list[EncodedExample], tmp_path: Path
) -> None:
    other = [replace(example, class_id=0) for example in examples]
    write_shard(tmp_path, 1, other[2:])
    shard = tmp_path / "set" / "shard-000001.arrow"
    size = shard.stat().st_size
    (tmp_path / shard.name).replace(shard)
    assert shard.stat().st_size == size
    latents = open_latent_set(tmp_path / "set")
    latents.moments(0, False, False)
    with pytest.raises(LatentSetError, match="rows are not those of the set's index"):
        latents.moments(2, False, False)


def test_a_set_of_an_older_version_reads_the_same(
    examples: list[EncodedExample], tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    now = open_latent_set(folder)
    as_older_version(folder)
    old = open_latent_set(folder)
    assert data_digest(old) == data_digest(now)
    assert old.names() == now.names() == [example.file for example in examples]
    assert old.lengths.tolist() == now.lengths.tolist() == old.grids.prod(axis=-1).tolist()
    assert torch.equal(old.moments(1, True, True)[0], now.moments(1, True, True)[0])


def test_a_set_opens_without_a_look_into_its_shards(
    examples: list[EncodedExample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = arrow_set.map_shard
    monkeypatch.setattr(arrow_set, "map_shard", lambda p: (opened.append(p.name), real(p))[1])
    latents = open_latent_set(tmp_path / "set")
    assert len(latents.names()) == len(latents.lengths) == 3
    assert opened == []
    latents.moments(2, False, False)
    latents.moments(2, False, True)
    assert opened == ["shard-000001.arrow"]


def test_a_damaged_index_is_refused(examples: list[EncodedExample], tmp_path: Path) -> None:
    (index,) = (tmp_path / "set").glob("index-*.arrow")
    content = index.read_bytes()
    index.write_bytes(content[:-100])
    with pytest.raises(LatentSetError, match="index of the set is damaged"):
        open_latent_set(tmp_path / "set")
    grid, other = (np.array(sides, np.int32).tobytes() for sides in ([3, 2, 4, 4], [3, 2, 4, 5]))
    index.write_bytes(content.replace(grid, other))
    with pytest.raises(LatentSetError, match="number of tokens is not that of its size"):
        open_latent_set(tmp_path / "set")
    index.unlink()
    with pytest.raises(LatentSetError, match="no such file"):
        open_latent_set(tmp_path / "set")


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("resized", pa.array([[1.0] * 7], pa.list_(pa.float16())), "latents are not of the size"),
        ("rows", pa.array([-2], pa.int32()), "latents are not of the size"),
        ("rows", pa.array([2.0], pa.float64()), "rows is of type double"),
        ("label", pa.array([7], pa.int64()), "a label is none of the 2 classes"),
        ("label", pa.array([None], pa.int64()), "values are missing"),
    ],
)
def test_a_shard_with_damaged_values_is_refused(
    examples: list[EncodedExample], tmp_path: Path, column: str, values: pa.Array, message: str
) -> None:
    path = tmp_path / "set" / "shard-000001.arrow"
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    place = table.column_names.index(column)
    damaged = table.set_column(place, column, values)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, damaged.schema) as stream:
        stream.write_table(damaged)
    with pytest.raises(LatentSetError):
        open_latent_set(tmp_path / "set").moments(2, False, False)
    as_older_version(tmp_path / "set")
    with pytest.raises(LatentSetError, match=message):
        open_latent_set(tmp_path / "set")


def test_an_offset_beyond_the_data_is_refused(
    examples: list[EncodedExample], tmp_path: Path
) -> None:
    """Arrow ends the process when it follows one."""
    path = tmp_path / "set" / "shard-000001.arrow"
    stored, beyond = (np.array([0, n], np.int32).tobytes() for n in (320, 10**8))
    content = path.read_bytes()
    assert stored in content
    path.write_bytes(content.replace(stored, beyond))
    latents = open_latent_set(tmp_path / "set")
    with pytest.raises(LatentSetError, match="not a readable Arrow file"):
        latents.moments(2, False, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shards", 0),
        ("shards", 10**30),
        ("shards", [0.5]),
        ("channels", True),
        ("flips", 1),
        ("class_names", ["cat", None]),
        ("resolution", "64"),
    ],
)
def test_a_description_with_wrong_values_is_refused(
    examples: list[EncodedExample], tmp_path: Path, name: str, value: object
) -> None:
    file = tmp_path / "set" / "latent_set.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, name: value}), encoding="utf-8")
    with pytest.raises(LatentSetError):
        open_latent_set(tmp_path / "set")

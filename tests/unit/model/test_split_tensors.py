"""Checkpoints whose tensors are cut into slices, one file per process that saved."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.broken_checkpoints import CONFIG, weights
from support.parts import PARTS, write_parts
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load

from comfyui_fitv2 import CheckpointError, Metadata, load_checkpoint, read_checkpoint
from comfyui_fitv2.checkpoint import read_metadata
from comfyui_fitv2.split_tensors import read_split

KEY = "blocks.1.mlp.fc2.weight"
STATE = weights()
ABOUT = {"format": "pt", "fitv2": Metadata(CONFIG).to_json()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_parts(tmp_path / "ema-0.9.parts", STATE, ABOUT)
    return tmp_path / "ema-0.9.parts"


def part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}-of-{PARTS:05d}.safetensors"


def change(file: Path, offsets: str | None = None, **values: torch.Tensor) -> None:
    """Give a part other tensors, or another text of offsets."""
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    if offsets is not None:
        metadata["DCP_SHARDING_INFO"] = offsets
    save_file({**load_file(file), **values}, file, metadata)


@pytest.mark.parametrize("place", ["", "part-00002-of-00003.safetensors", ".."])
def test_slices_load_from_their_folder_any_part_and_the_folder_around(
    folder: Path, place: str
) -> None:
    loaded = load_checkpoint(folder / place)
    assert loaded.config == CONFIG
    state = loaded.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in STATE.items())


def test_metadata_are_read_from_the_headers_alone(folder: Path) -> None:
    assert read_metadata(folder).config == CONFIG


def test_the_slices_of_numbers_and_of_another_dimension_fit_together(tmp_path: Path) -> None:
    state = {"step": torch.tensor(3.0), "w": torch.arange(4.0)}
    write_parts(tmp_path / "a", state, {})
    split, _ = read_split(sorted((tmp_path / "a").iterdir()))
    assert {name: each.merged().tolist() for name, each in split.items()} == {
        "step": 3.0,
        "w": [0, 1, 2, 3],
    }
    for number, columns in enumerate((slice(0, 1), slice(1, 3))):
        values = torch.arange(6.0).view(2, 3)[:, columns].contiguous()
        about = {"DCP_SHARDING_INFO": json.dumps({"w": {"saved_offsets": [0, columns.start]}})}
        save_file({"w": values}, tmp_path / f"{1 - number}.safetensors", about)
    split, _ = read_split([tmp_path / "0.safetensors", tmp_path / "1.safetensors"])
    assert split["w"].shape == (2, 3)
    assert torch.equal(split["w"].merged(), torch.arange(6.0).view(2, 3))


def test_pytorchs_own_reader_reads_the_same(folder: Path) -> None:
    state = {key: torch.empty_like(value) for key, value in STATE.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = HuggingFaceStorageReader(str(folder))
        load(state, storage_reader=reader, no_dist=True)
    assert all(torch.equal(state[key], value) for key, value in STATE.items())


def test_a_missing_part_is_named(folder: Path) -> None:
    part(folder, 2).unlink()
    with pytest.raises(CheckpointError, match=r"of the 3 parts.*part-00002-of-00003"):
        read_checkpoint(folder)


def test_a_truncated_part_is_named(folder: Path) -> None:
    file = part(folder, 3)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"part-00003-of-00003.*truncated"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "offsets",
    [
        "{",
        "[]",
        "{}",
        json.dumps({key: {"saved_offsets": 3} for key in STATE}),
        json.dumps({key: {"saved_offsets": [0.5]} for key in STATE}),
        json.dumps(dict.fromkeys(STATE, 1)),
        "[" * 100_000,
    ],
    ids=["cut", "list", "empty", "number", "fraction", "no-object", "deep"],
)
def test_damaged_offsets_are_refused(folder: Path, offsets: str) -> None:
    change(part(folder, 2), offsets)
    with pytest.raises(CheckpointError, match=r"part-00002.*offsets cannot be read"):
        read_checkpoint(folder)


@pytest.mark.parametrize("change_to", ["gap", "overlap", "columns", "dtype", "negative"])
def test_slices_that_do_not_fit_are_refused(folder: Path, change_to: str) -> None:
    file = part(folder, 2)
    with safe_open(file, "pt") as opened:
        offsets = json.loads(opened.metadata()["DCP_SHARDING_INFO"])
    values, begin = load_file(file)[KEY], offsets[KEY]["saved_offsets"]
    if change_to == "columns":
        values = values[:, 1:].contiguous()
    elif change_to == "dtype":
        values = values.half()
    else:
        begin[0] += {"gap": 1, "overlap": -1, "negative": -1000}[change_to]
    change(file, json.dumps(offsets), **{KEY: values})
    with pytest.raises(CheckpointError, match=f"slice of {KEY} .* does not fit"):
        read_checkpoint(folder)

"""Checkpoints in several files, and in folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.broken_checkpoints import CONFIG, torch_pickle, weights
from torch import Tensor

from comfyui_fitv2 import CheckpointError, FiT, Metadata, load_checkpoint, read_checkpoint

KEY = "blocks.1.mlp.fc2.weight"
PARTS = 3


def shards(
    folder: Path, stem: str = "model", suffix: str = ".safetensors", index: bool = True
) -> dict[str, Tensor]:
    """Write a checkpoint in three parts; returns its weights."""
    state = weights()
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for number in range(PARTS):
        name = f"{stem}-{number + 1:05d}-of-{PARTS:05d}{suffix}"
        part = {key: state[key] for key in list(state)[number::PARTS]}
        weight_map.update(dict.fromkeys(part, name))
        if suffix == ".safetensors":
            save_file(part, folder / name, {"format": "pt"})
        else:
            (folder / name).write_bytes(torch_pickle(part))
    if index:
        content = {"metadata": {"fitv2": Metadata(CONFIG).to_json()}, "weight_map": weight_map}
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(content))
    return state


def same(path: Path, state: Mapping[str, Tensor]) -> bool:
    loaded = load_checkpoint(path)
    assert loaded.config == CONFIG
    return all(torch.equal(loaded.model.state_dict()[key], state[key]) for key in state)


@pytest.mark.cases("C3")
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model", "mine"])
def test_shards_load_from_their_index_their_folder_and_any_part(
    tmp_path: Path, stem: str, suffix: str
) -> None:
    state = shards(tmp_path, stem, suffix)
    assert same(tmp_path / f"{stem}{suffix}.index.json", state)
    assert same(tmp_path, state)
    assert same(tmp_path / f"{stem}-00002-of-00003{suffix}", state)


@pytest.mark.cases("C3")
def test_all_parts_are_enough_without_an_index(tmp_path: Path) -> None:
    state = shards(tmp_path, index=False)
    (tmp_path / "config.json").write_text(json.dumps(asdict(CONFIG)))
    assert same(tmp_path / "model-00001-of-00003.safetensors", state)
    assert same(tmp_path, state)


@pytest.mark.cases("C3")
def test_a_single_part_is_called_one(tmp_path: Path) -> None:
    shards(tmp_path, index=False)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"part 1 of the 3 parts.*model-00002-of-00003"):
        load_checkpoint(tmp_path / "model-00001-of-00003.safetensors")


@pytest.mark.cases("C3")
def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shards(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    for path in (tmp_path, tmp_path / "model-00001-of-00003.safetensors"):
        with pytest.raises(CheckpointError, match=r"1 are missing \(model-00002-of-00003"):
            load_checkpoint(path)


def test_a_part_of_another_checkpoint_is_found_out(tmp_path: Path) -> None:
    shards(tmp_path)
    part = tmp_path / "model-00002-of-00003.safetensors"
    save_file({"x": torch.zeros(1)}, part)
    with pytest.raises(CheckpointError, match=r"00002-of-00003.*it lacks .* of the tensors"):
        load_checkpoint(tmp_path)


@pytest.mark.cases("C3")
@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "/etc/passwd",
        "a/../../b.bin",
        "..\\outside.bin",
        "C:\\x.bin",
        "",
        3,
    ],
)
def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path, name: object) -> None:
    save_file(weights(), tmp_path / "outside.safetensors")
    folder = tmp_path / "model"
    folder.mkdir()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(weights(), name)}))
    with pytest.raises(CheckpointError, match="no file of its own folder"):
        load_checkpoint(index)


@pytest.mark.cases("C3", "C5")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "neither safetensors"),
        ('{"weight_map": ' + '{"a": ' * 100_000, "nested too deeply"),
        ('{"weight_map": 3}', "weight_map is not an object"),
        ('{"weight_map": {}}', "weight_map is not an object"),
        ('{"weight_map": {"a": "x.bin", "a": "y.bin"}}', "the key 'a' twice"),
        ('{"architectures": ["FiT"]}', "a JSON file without weights"),
        ('{"weight_map": {"a": "' + "9" * 300 + '"}}', "no file of its own folder"),
        ('{"a": ' + "9" * 10_000 + "}", "damaged JSON"),
        (b'{"a": "\xff\xfe"}', "damaged JSON"),
        ('{"weight_map"', "damaged JSON"),
    ],
    ids=["list", "deep", "number", "empty", "twice", "config", "long", "digits", "bytes", "cut"],
)
def test_an_index_that_is_none_is_explained(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def _diffusers(folder: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    folder.mkdir(parents=True)
    state = weights()
    save_file(state, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return state


@pytest.mark.cases("C3")
@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "FiT", "num_heads": 2, "hidden_size": 32, "patch_size": 2},
        {"_class_name": "Transformer", "num_attention_heads": 2, "attention_head_dim": 16},
    ],
)
def test_a_diffusers_folder_tells_the_head_count(tmp_path: Path, config: dict[str, Any]) -> None:
    state = _diffusers(tmp_path / "pipeline" / "transformer", config)
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    for path in (
        tmp_path / "pipeline",
        tmp_path / "pipeline" / "transformer",
        tmp_path / "pipeline" / "transformer" / "diffusion_pytorch_model.safetensors",
    ):
        assert same(path, state)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_heads": 2, "hidden_size": 64}, "no preset has that shape"),
        ({"num_heads": "2"}, "no preset has that shape"),
        ({"num_heads": 3}, "config.json cannot be used: hidden_size 32 is not divisible"),
        ({"num_heads": 2, "rope_base": "x"}, "config.json cannot be used.*rope_base"),
    ],
)
def test_a_config_of_something_else_is_not_believed(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    _diffusers(tmp_path / "model", config)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "model")


def test_in_a_folder_the_moving_average_is_preferred(tmp_path: Path) -> None:
    raw, average = FiT(CONFIG), FiT(CONFIG)
    metadata = {"fitv2": Metadata(CONFIG).to_json()}
    save_file(raw.state_dict(), tmp_path / "model.safetensors", metadata)
    save_file(average.state_dict(), tmp_path / "ema-0.999.safetensors", metadata)
    assert torch.equal(read_checkpoint(tmp_path).state_dict[KEY], average.state_dict()[KEY])
    save_file(average.state_dict(), tmp_path / "ema-0.9.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"Name one of those in it: ema-0\.9\.safe"):
        read_checkpoint(tmp_path)


@pytest.mark.cases("C2")
def test_a_distributed_checkpoint_is_named_with_its_conversion(tmp_path: Path) -> None:
    folder = tmp_path / "pytorch_model_fsdp_0"
    folder.mkdir()
    (folder / ".metadata").write_bytes(b"\x80\x04.")
    (folder / "__0_0.distcp").write_bytes(torch_pickle({}))
    for path in (folder, tmp_path, folder / "__0_0.distcp"):
        with pytest.raises(CheckpointError, match=r"distributed checkpoint.*dcp_to_torch"):
            load_checkpoint(path)


def test_a_deepspeed_folder_is_named_with_its_conversion(tmp_path: Path) -> None:
    (tmp_path / "zero_to_fp32.py").write_text("")
    with pytest.raises(CheckpointError, match=r"DeepSpeed.*zero_to_fp32"):
        load_checkpoint(tmp_path)

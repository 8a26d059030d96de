"""Files that cannot be mapped, and headers and metadata that nobody should have written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.broken_checkpoints import CONFIG, torch_pickle, weights
from torch import Tensor

from comfyui_fitv2 import CheckpointError, Metadata, load_checkpoint, read_checkpoint
from comfyui_fitv2.autoencoder import TinyAutoencoder, load_autoencoder, save_autoencoder
from comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor

METADATA = {"fitv2": Metadata(CONFIG).to_json()}


@pytest.fixture
def no_mapping(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A file system that cannot map files, as some network drives; what was tried is listed."""
    tried: list[Path] = []

    def cannot_map(path: Any, *_: Any, **__: Any) -> None:
        tried.append(Path(path))
        raise OSError(19, "No such device")

    load = torch.load

    def load_unmapped(file: Any, *arguments: Any, mmap: bool = False, **options: Any) -> Any:
        if mmap:
            tried.append(Path(file))
            raise RuntimeError(f"unable to mmap 1407 bytes from file <{file}>: No such device (19)")
        return load(file, *arguments, **options)

    monkeypatch.setattr("comfyui_fitv2.safetensors_file.safe_open", cannot_map)
    monkeypatch.setattr(torch, "load", load_unmapped)
    return tried


@pytest.mark.cases("P10")
def test_safetensors_are_read_where_they_cannot_be_mapped(
    tmp_path: Path, no_mapping: list[Path]
) -> None:
    path = tmp_path / "model.safetensors"
    state = weights()
    state["final_layer.linear.bias"] = state["final_layer.linear.bias"].to(torch.bfloat16)
    save_file(state, path, METADATA)
    loaded = read_checkpoint(path)
    assert no_mapping == [path]
    assert loaded.metadata == Metadata(CONFIG)
    assert loaded.state_dict.keys() == state.keys()
    for key, value in loaded.state_dict.items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, state[key])


@pytest.mark.cases("P10")
def test_pickles_are_read_where_they_cannot_be_mapped(
    tmp_path: Path, no_mapping: list[Path]
) -> None:
    path, state = tmp_path / "model.pt", weights()
    path.write_bytes(torch_pickle({**state, METADATA_TENSOR: metadata_tensor(Metadata(CONFIG))}))
    loaded = load_checkpoint(path)
    assert no_mapping == [path]
    assert all(torch.equal(v, state[k]) for k, v in loaded.model.state_dict().items())


@pytest.mark.cases("P10")
def test_a_tiny_vae_is_read_where_it_cannot_be_mapped(
    tmp_path: Path, no_mapping: list[Path]
) -> None:
    path, autoencoder = tmp_path / "vae.safetensors", TinyAutoencoder()
    save_autoencoder(path, autoencoder)
    loaded = load_autoencoder(path)
    assert no_mapping == [path]
    assert all(torch.equal(v, autoencoder.state_dict()[k]) for k, v in loaded.state_dict().items())


@pytest.mark.parametrize("kept", [0.0005, 0.01, 0.1, 0.5, 0.999])
@pytest.mark.usefixtures("no_mapping")
def test_a_cut_file_that_cannot_be_mapped_is_called_truncated(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights(), path, METADATA)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(path)


@pytest.mark.parametrize("missing", [1, 7, 8])
@pytest.mark.usefixtures("no_mapping")
def test_a_file_cut_at_the_end_of_its_header_is_called_truncated(
    tmp_path: Path, missing: int
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights(), path, METADATA)
    content = path.read_bytes()
    path.write_bytes(content[: 8 + int.from_bytes(content[:8], "little") - missing])
    with pytest.raises(CheckpointError, match="truncated"):
        load_checkpoint(path)


def with_header(path: Path, header: bytes, size: int | None = None, data: bytes = b"") -> Path:
    path.write_bytes((len(header) if size is None else size).to_bytes(8, "little") + header + data)
    return path


DEEP = b'{"a": ' * 100_000


@pytest.mark.cases("C5")
@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    ("header", "size"),
    [
        (DEEP, None),
        (b"{}", 2**63),
        (b"{" + b" " * 50, 200_000_000),
        (b'{"a": \xff}', None),
        (b'{"a": 3}', None),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": ["a", "b"]}}', None),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e99]}}', None),
        (b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}', None),
        (b'{"a": {"dtype": "F32", "shape": [9999999999999], "data_offsets": [0, 4]}}', None),
        (b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}', None),
        (b'{"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}', None),
        (b'{"a": {"dtype": "F32", "shape": [' + b"9" * 9999 + b'], "data_offsets": [0, 4]}}', None),
        (b'{"__metadata__": [1]}', None),
        (b'{"__metadata__": {"fitv2": 3}}', None),
    ],
)
def test_a_header_that_cannot_be_is_a_checkpoint_error(
    tmp_path: Path,
    header: bytes,
    size: int | None,
    mapped: bool,
    request: pytest.FixtureRequest,
) -> None:
    if not mapped:
        request.getfixturevalue("no_mapping")
    path = with_header(tmp_path / "model.safetensors", header, size, bytes(4))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def _stored(**changes: Any) -> str:
    return json.dumps({"config": asdict(CONFIG), **changes})


def _config(**changes: Any) -> str:
    return json.dumps({"config": {**asdict(CONFIG), **changes}})


ABSURD = {
    "deep": '{"config": ' + '{"a": ' * 100_000,
    "deep list": '{"training": ' + "[" * 100_000,
    "not JSON": "fitv2",
    "a list": "[]",
    "a number": "3",
    "twice": '{"config": {"depth": 2, "depth": 3}}',
    "many digits": '{"config": {"depth": ' + "9" * 10_000 + "}}",
    "huge depth": _config(depth=10**9),
    "large depth": _config(depth=2**20),
    "huge width": _config(hidden_size=2**40, num_heads=2),
    "large width": _config(hidden_size=2**24, num_heads=2),
    "huge rank": _config(adaln_lora_dim=2**60),
    "large rank": _config(adaln_lora_dim=2**24),
    "huge channels": _config(in_channels=2**62),
    "large channels": _config(in_channels=2**24),
    "huge classes": _config(num_classes=10**15),
    "train_length": _config(train_length=10**400),
    "text as depth": _config(depth="2"),
    "a true depth": _config(depth=True),
    "float depth": _config(depth=2.0),
    "null heads": _config(num_heads=None),
    "NaN mlp_ratio": _config(mlp_ratio=float("nan")),
    "infinite mlp_ratio": _config(mlp_ratio=float("inf")),
    "large mlp_ratio": _config(mlp_ratio=1e8),
    "zero rope_base": _config(rope_base=0),
    "text rope_base": _config(rope_base="10000"),
    "text decoupled": _config(decoupled="no"),
    "list extrapolation": _config(extrapolation=[]),
    "list prediction": _config(prediction=["velocity"]),
    "object prediction": _config(prediction={}),
    "names as a text": _stored(class_names="abc"),
    "names as an object": _stored(class_names={"0": "a", "1": "b", "2": "c"}),
    "a name of null": _stored(class_names=["a", None, "c"]),
    "nested names": _stored(class_names=["a", ["b"], "c"]),
    "half a surrogate": _stored(class_names=["a", "\ud800", "c"]),
    "training as a list": _stored(training=[1]),
    "latent format as a list": _stored(latent_format=[1]),
    "latent format without scale": _stored(latent_format={}),
    "text scale": _stored(latent_format={"scale_factor": "1"}),
    "zero scale": _stored(latent_format={"scale_factor": 0}),
    "NaN scale": _stored(latent_format={"scale_factor": float("nan")}),
    "huge scale": _stored(latent_format={"scale_factor": 10**400}),
    "factors of two": _stored(
        latent_format={"scale_factor": 1, "latent_rgb_factors": [[1.0, 2.0]] * 4}
    ),
    "factors of text": _stored(latent_format={"scale_factor": 1, "latent_rgb_factors": "abcd"}),
    "NaN factors": _stored(
        latent_format={"scale_factor": 1, "latent_rgb_factors": [[1.0, 2.0, float("nan")]] * 4}
    ),
    "too many factors": _stored(
        latent_format={"scale_factor": 1, "latent_rgb_factors": [[0.0] * 3] * 10_000}
    ),
    "too few factors": _stored(
        latent_format={"scale_factor": 1, "latent_rgb_factors": [[0.0] * 3] * 3}
    ),
    "bias of two": _stored(
        latent_format={
            "scale_factor": 1,
            "latent_rgb_factors": [[0.0] * 3] * 4,
            "latent_rgb_factors_bias": [0.0, 0.0],
        }
    ),
    "unhashable kind": _stored(latent_format={"scale_factor": 1, "preview_kind": []}),
}


def _in_the_header(path: Path, text: str) -> None:
    save_file(weights(), path, {"fitv2": text})


def _in_a_tensor(path: Path, text: str) -> None:
    stored = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    save_file({**weights(), METADATA_TENSOR: stored}, path)


@pytest.mark.cases("C5")
@pytest.mark.parametrize("write", [_in_the_header, _in_a_tensor])
@pytest.mark.parametrize("text", ABSURD.values(), ids=ABSURD)
def test_absurd_metadata_is_a_checkpoint_error(
    tmp_path: Path, text: str, write: Callable[[Path, str], None]
) -> None:
    path = tmp_path / "model.safetensors"
    write(path, text)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path)
    assert len(str(error.value)) < 1000
    assert not str(error.value).endswith("..")


@pytest.mark.cases("C5")
@pytest.mark.parametrize("with_metadata", [True, False])
@pytest.mark.parametrize("version_1", [True, False])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("x_embedder.proj.weight", torch.tensor(1.0)),
        ("y_embedder.embedding_table.weight", torch.zeros(0, 32)),
        ("final_layer.linear.weight", torch.tensor(1.0)),
        ("final_layer.linear.bias", torch.zeros(16, device="meta")),
        ("final_layer.linear.bias", torch.zeros(16).to_sparse()),
        ("final_layer.linear.bias", torch.zeros(16, dtype=torch.complex64)),
        ("final_layer.linear.bias", torch.zeros(16, dtype=torch.bool)),
        ("blocks.x.bias", torch.zeros(0)),
    ],
)
def test_absurd_tensors_are_a_checkpoint_error(
    tmp_path: Path, key: str, value: Tensor, with_metadata: bool, version_1: bool
) -> None:
    path, state = tmp_path / "model.pt", {**weights(), key: value}
    if with_metadata:
        config = replace(CONFIG, prediction="epsilon") if version_1 else CONFIG
        state[METADATA_TENSOR] = metadata_tensor(Metadata(config))
    path.write_bytes(torch_pickle(state))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.cases("C5")
@pytest.mark.parametrize(
    "stored",
    [
        torch.tensor([300, -1]),
        torch.tensor([0.5, 1.5]),
        torch.tensor([[1]], dtype=torch.uint8),
        torch.tensor([255, 254], dtype=torch.uint8),
        torch.zeros(0, dtype=torch.uint8),
        torch.zeros(20_000_000, dtype=torch.uint8),
    ],
    ids=["range", "floats", "rows", "not UTF-8", "empty", "huge"],
)
def test_a_metadata_tensor_that_is_no_text_is_a_checkpoint_error(
    tmp_path: Path, stored: Tensor
) -> None:
    path = tmp_path / "model.safetensors"
    save_file({**weights(), METADATA_TENSOR: stored}, path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path)

"""What a checkpoint says of its model is read from its header, and nothing else of it is."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.broken_checkpoints import BROKEN, CONFIG, Broken, weights

from comfyui_fitv2 import CheckpointError, FiT, Metadata, read_checkpoint, save_checkpoint
from comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor, read_metadata
from comfyui_fitv2.config import PRESETS

METADATA = Metadata(CONFIG, ["a", "b", "c"])


def test_the_metadata_of_a_file_are_those_of_its_checkpoint(bundled_checkpoint: Path) -> None:
    assert read_metadata(bundled_checkpoint) == read_checkpoint(bundled_checkpoint).metadata


def test_weights_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "nan.safetensors"
    save_checkpoint(path, {k: v * torch.nan for k, v in weights().items()}, METADATA)
    assert read_metadata(path) == METADATA
    with pytest.raises(CheckpointError, match="NaN"):
        read_checkpoint(path)


def test_metadata_in_a_tensor_is_read(tmp_path: Path) -> None:
    path = tmp_path / "saved_by_a_host.safetensors"
    state = {f"model.diffusion_model.{key}": value for key, value in weights().items()}
    key = f"model.diffusion_model.{METADATA_TENSOR}"
    save_file({**state, key: metadata_tensor(METADATA)}, path)
    assert read_metadata(path) == METADATA


def test_a_file_without_metadata_is_known_by_its_shapes(tmp_path: Path) -> None:
    path = tmp_path / "official.safetensors"
    config = replace(PRESETS["fitv2-b"], num_classes=7)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in FiT(config).state_dict().items()}
    save_file(
        {key: torch.zeros(shape, dtype=torch.float8_e5m2) for key, shape in shapes.items()}, path
    )
    assert read_metadata(path).config == config


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: b.name)
def test_a_broken_file_gets_an_error_and_runs_no_code(tmp_path: Path, broken: Broken) -> None:
    path, made_by_code = tmp_path / broken.name, tmp_path / "made_by_code"
    path.write_bytes(broken.content(made_by_code))
    with contextlib.suppress(CheckpointError):  # of some only the weights are wrong
        assert read_metadata(path).config.num_classes > 0
    assert not made_by_code.exists()

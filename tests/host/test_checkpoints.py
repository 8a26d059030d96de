"""Checkpoints that are not one file of ours in 16 or 32 bits, through FiT Loader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from host.reference import TOLERANCE, distance, sampled
from safetensors.torch import save_file
from support.graph import Graph
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig, Metadata, load_checkpoint

CONFIG = FiTConfig(hidden_size=64, depth=2, num_heads=2, num_classes=10, adaln_lora_dim=16)
METADATA = {"fitv2": Metadata(CONFIG).to_json()}
LABEL = 3


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(2)
    return {key: torch.randn_like(value) * 0.1 for key, value in FiT(CONFIG).state_dict().items()}


def _in_parts(path: Path, weights: dict[str, Tensor]) -> Path:
    names = [f"{path.stem}-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    halves = [dict(list(weights.items())[half::2]) for half in (0, 1)]
    for name, half in zip(names, halves, strict=True):
        save_file(half, path.with_name(name), METADATA)
    weight_map = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return path.with_name(names[0])


def _in_fp8(path: Path, weights: dict[str, Tensor]) -> Path:
    save_file({k: v.to(torch.float8_e4m3fn) for k, v in weights.items()}, path, METADATA)
    return path


def _in_scaled_fp8(path: Path, weights: dict[str, Tensor]) -> Path:
    stored = dict(weights)
    for key, value in weights.items():
        if key.startswith("blocks.") and value.ndim == 2:
            scale = value.abs().max() / 400
            stored[key] = (value / scale).to(torch.float8_e4m3fn)
            stored[f"{key.removesuffix('weight')}scale_weight"] = scale
    save_file(stored, path, METADATA)
    return path


@pytest.mark.cases("C3", "C4")
@pytest.mark.parametrize("write", [_in_parts, _in_fp8, _in_scaled_fp8])
def test_a_loaded_checkpoint_samples_as_in_the_library(
    graph: Graph, latents, server, weights: dict[str, Tensor], write
) -> None:
    folder = server.base / "models" / "fit"
    path = write(folder / f"{write.__name__.strip('_')}.safetensors", weights)
    loader = graph.loader(path.name)
    sampler = graph.fit_sampler(loader[0], graph.label(loader[0], str(LABEL)), graph.size()[0])
    model = load_checkpoint(path, dtype=torch.float32).model
    got = latents(graph, sampler[0])
    assert distance(got, sampled(model, LABEL)) < TOLERANCE

"""Weights in fp8 are computed in bf16; other quantised weights are refused by their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.broken_checkpoints import CONFIG, weights
from torch import Tensor

from comfyui_fitv2 import CheckpointError, Metadata, load_checkpoint, read_checkpoint, sample

KEY = "blocks.1.mlp.fc2.weight"
METADATA = {"fitv2": Metadata(CONFIG).to_json()}
FP8 = [torch.float8_e4m3fn, torch.float8_e5m2]


def filled() -> dict[str, Tensor]:
    """Weights of which none is zero, of an ordinary size."""
    torch.manual_seed(0)
    return {key: torch.randn_like(value) * 0.05 for key, value in weights().items()}


def written(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    path = tmp_path / "quantised.safetensors"
    save_file(state, path, METADATA)
    return path


def scaled(
    state: dict[str, Tensor], ending: str, per_row: bool = False, dtype: torch.dtype = FP8[0]
) -> dict[str, Tensor]:
    """Every matrix of a block in fp8, with its scale."""
    result = {}
    for key, value in state.items():
        if not key.startswith("blocks.") or value.ndim != 2:
            result[key] = value
            continue
        largest = value.abs().amax(1) if per_row else value.abs().max()
        scale = largest / 400
        result[key] = (value / (scale[:, None] if per_row else scale)).to(dtype)
        result[key.removesuffix(".weight") + ending] = scale
    return result


def images(path: Path) -> Tensor:
    loaded = load_checkpoint(path)
    assert loaded.model.dtype == torch.bfloat16
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return sample(loaded.model, noise, torch.tensor([1]), "euler", 2)


@pytest.mark.cases("C4")
@pytest.mark.parametrize("dtype", FP8, ids=str)
@pytest.mark.parametrize("which", ["all", "matrices"])
def test_fp8_weights_are_computed_in_bf16(tmp_path: Path, dtype: torch.dtype, which: str) -> None:
    state = {
        key: value.to(dtype) if which == "all" or value.ndim == 2 else value
        for key, value in filled().items()
    }
    path = written(tmp_path, state)
    got = images(path)
    save_file({k: v.to(torch.bfloat16) for k, v in state.items()}, path, METADATA)
    assert torch.equal(got, images(path))
    assert load_checkpoint(path, dtype=torch.float32).model.dtype == torch.float32


def test_a_host_gets_fp8_weights_as_they_are(tmp_path: Path) -> None:
    state = {key: value.to(FP8[0]) for key, value in filled().items()}
    stored = read_checkpoint(written(tmp_path, state)).state_dict
    assert {value.dtype for value in stored.values()} == {FP8[0]}


def test_computing_in_fp8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot compute in"):
        load_checkpoint(written(tmp_path, filled()), dtype=FP8[0])


@pytest.mark.cases("C4")
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("ending", [".weight_scale", ".scale_weight", ".weight.scale"])
def test_scaled_fp8_is_multiplied_out(tmp_path: Path, ending: str, per_row: bool) -> None:
    state = filled()
    stored = scaled(state, ending, per_row)
    layer = KEY.removesuffix(".weight")
    stored |= {
        "scaled_fp8": torch.zeros(2, dtype=FP8[0]),
        f"{layer}.input_scale": torch.tensor(1.0),
        f"{layer}.scale_input": torch.tensor(1.0),
    }
    path = written(tmp_path, stored)
    loaded = load_checkpoint(path)
    assert loaded.model.dtype == torch.bfloat16
    for key, value in loaded.model.state_dict().items():
        torch.testing.assert_close(value.float(), state[key], rtol=0.08, atol=1e-3)


@pytest.mark.cases("C4")
@pytest.mark.parametrize("container", [FP8[0], torch.uint8], ids=str)
def test_comfy_quant_says_the_format(tmp_path: Path, container: torch.dtype) -> None:
    state = filled()
    stored = scaled(state, ".weight_scale")
    for key in [key for key in stored if key.endswith(".weight_scale")]:
        layer = key.removesuffix(".weight_scale")
        text = json.dumps({"format": "float8_e4m3fn", "full_precision_matrix_mult": True})
        stored[f"{layer}.comfy_quant"] = torch.tensor(list(text.encode()), dtype=torch.uint8)
        stored[f"{layer}.weight"] = stored[f"{layer}.weight"].view(container)
    loaded = read_checkpoint(written(tmp_path, stored)).state_dict
    assert loaded.keys() == state.keys()
    torch.testing.assert_close(loaded[KEY].float(), state[KEY], rtol=0.08, atol=1e-3)


def _format(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


_LAYER = KEY.removesuffix(".weight")


@pytest.mark.cases("C4")
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({f"{_LAYER}.comfy_quant": _format('{"format": "nvfp4"}')}, "nvfp4 quantised"),
        ({f"{_LAYER}.comfy_quant": _format('{"format": "int8_tensorwise"}')}, "int8_tensorwise"),
        ({f"{_LAYER}.comfy_quant": _format("no json")}, "format .* cannot be read"),
        ({f"{_LAYER}.comfy_quant": _format("[" * 100_000)}, "format .* cannot be read"),
        ({f"{_LAYER}.comfy_quant": torch.tensor([0.5])}, "format .* cannot be read"),
        ({f"{_LAYER}.weight_scale_2": torch.ones(())}, "NVFP4 quantised"),
        ({f"{_LAYER}.weight.absmax": torch.ones(2)}, "bitsandbytes quantised"),
        ({f"{_LAYER}.weight.quant_state.bitsandbytes__nf4": torch.ones(2)}, "bitsandbytes"),
        ({f"{_LAYER}.SCB": torch.ones(2)}, "bitsandbytes int8"),
        ({f"{_LAYER}.qweight": torch.ones(2)}, "GPTQ or AWQ"),
        ({f"{_LAYER}.weight_scale": torch.ones(())}, "block-scaled or integer quantised"),
        (
            {
                KEY: torch.zeros(32, 85, dtype=torch.int8),
                f"{_LAYER}.weight_scale": torch.ones(()),
            },
            "block-scaled or integer quantised",
        ),
        (
            {
                KEY: torch.zeros(32, 85, dtype=torch.float8_e4m3fn),
                f"{_LAYER}.weight_scale": torch.ones(32, 3),
            },
            "block-scaled or integer quantised",
        ),
        ({f"{_LAYER}.output_scale": torch.ones(())}, "scaled quantised"),
    ],
)
def test_other_quantised_weights_are_refused_by_name(
    tmp_path: Path, extra: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        load_checkpoint(written(tmp_path, {**filled(), **extra}))
    assert "bf16, fp16, fp32 or fp8" in str(error.value) or "cannot be read" in str(error.value)


@pytest.mark.cases("C4")
def test_a_gguf_file_is_named_with_what_to_use(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(CheckpointError, match=r"a GGUF file.*Use the model's safetensors file"):
        load_checkpoint(path)

"""Which weights are stored in fp8 where ComfyUI is asked for it, and what the log says."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig

# By its path: the package around it needs a ComfyUI.
_SPEC = importlib.util.spec_from_file_location(
    "fit_precision", Path(__file__).parents[3] / "nodes" / "host" / "precision.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
precision = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(precision)

FP8 = [torch.float8_e4m3fn, torch.float8_e5m2]
SMALL = FiTConfig(hidden_size=64, depth=2, num_heads=4, num_classes=10, adaln_lora_dim=16)


def weights(config: FiTConfig, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    return FiT(config, device="meta", dtype=dtype).state_dict()


def test_matrices_are_most_of_a_model_and_small_layers_are_none() -> None:
    sizes = {key: value.numel() for key, value in weights(FiTConfig.preset("fitv2-xl")).items()}
    matrices = {key for key in sizes if precision.is_matrix(key)}
    assert sum(sizes[key] for key in matrices) > 0.8 * sum(sizes.values())
    assert {key.partition(".")[2].partition(".")[2] for key in matrices} == {
        *("attn.qkv.weight", "attn.proj.weight"),
        *("mlp.fc1_g.weight", "mlp.fc1_x.weight", "mlp.fc2.weight"),
    }


@pytest.mark.parametrize("asked", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions_are_what_was_asked_for(
    asked: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert precision.matrix_dtype(asked, weights(SMALL)) == asked
    assert not caplog.records


@pytest.mark.parametrize("asked", FP8)
def test_a_large_model_is_stored_in_fp8_and_the_log_says_what_to_choose(
    asked: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    assert precision.matrix_dtype(asked, weights(FiTConfig.preset("fitv2-xl"))) == asked
    (said,) = caplog.messages
    assert said.startswith(f"FiT: Weights in {str(asked)[6:]}")
    assert "choose bf16 as weight_dtype in FiT Loader" in said


@pytest.mark.parametrize("asked", FP8)
def test_a_small_model_keeps_the_precision_of_its_file(
    asked: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert precision.matrix_dtype(asked, weights(SMALL, torch.float32)) == torch.float32
    (said,) = caplog.messages
    assert said.startswith("FiT: The weights stay in float32")
    assert "0 MB" in said


def test_no_model_is_stored_without_signs(caplog: pytest.LogCaptureFixture) -> None:
    asked = getattr(torch, "float8_e8m0fnu", None)
    if asked is None:
        pytest.skip("this PyTorch does not have the format")
    with caplog.at_level(logging.INFO):
        stored = precision.matrix_dtype(asked, weights(FiTConfig.preset("fitv2-xl")))
    assert stored == torch.bfloat16
    assert "no sign" in caplog.text


def test_a_file_in_fp8_is_stored_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        large = weights(FiTConfig.preset("fitv2-xl"), torch.float8_e4m3fn)
        assert precision.matrix_dtype(torch.float8_e4m3fn, large) == torch.float8_e4m3fn
    assert not caplog.records

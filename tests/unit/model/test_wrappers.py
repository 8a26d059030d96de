"""Checkpoints of other trainers: the weights are found in whatever was saved around them."""

from __future__ import annotations

import argparse
import logging
import runpy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.broken_checkpoints import CONFIG, torch_pickle, weights
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from comfyui_fitv2 import CheckpointError, FiT, Metadata, load_checkpoint, read_checkpoint
from comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor

State = dict[str, Tensor]
KEY = "blocks.1.mlp.fc2.weight"


def described(state: State) -> State:
    """With our metadata, which other trainers' files do not have: these shapes are no preset's."""
    return {**state, METADATA_TENSOR: metadata_tensor(Metadata(CONFIG))}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


def other(state: State) -> State:
    """Weights that cannot be taken for ``state``."""
    return {key: value + 1 for key, value in state.items()}


def load(tmp_path: Path, content: Any) -> State:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(torch_pickle(content))
    return dict(read_checkpoint(path).state_dict)


def squashed(state: State) -> State:
    return {f"model_ema.{key.replace('.', '')}": value for key, value in state.items()}


Wrap = Callable[[State], Any]
WITHOUT_AVERAGE: dict[str, Wrap] = {
    "torch.compile": lambda s: prefixed(s, "_orig_mod."),
    "compiled DDP": lambda s: prefixed(s, "_orig_mod.module."),
    "DDP of a compiled one": lambda s: prefixed(s, "module._orig_mod."),
    "compiled blocks": lambda s: {
        key.replace("blocks.1.", "blocks.1._orig_mod."): value for key, value in s.items()
    },
    "FSDP": lambda s: {
        "_fsdp_wrapped_module."
        + key.replace("blocks.1.", "blocks.1._fsdp_wrapped_module._checkpoint_wrapped_module."): v
        for key, v in s.items()
    },
    "Lightning": lambda s: {"state_dict": prefixed(s, "model."), "epoch": 3, "loops": {"a": {}}},
    "DeepSpeed": lambda s: {"module": s, "optimizer": None, "global_steps": 7},
    "net": lambda s: {"net": prefixed(s, "module."), "opt": {"state": {}, "param_groups": []}},
    "model_state_dict": lambda s: {
        "epoch": 1,
        "model_state_dict": s,
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []},
    },
    "settings in a dict": lambda s: {"model": s, "args": {"lr": 1e-4, "betas": [0.9, 0.99]}},
    "several levels": lambda s: {"checkpoint": {"state": {"network": prefixed(s, "a.b.")}}},
    "AveragedModel": lambda s: {
        "n_averaged": torch.tensor(5),
        **prefixed(s, "module."),
    },
    "ComfyUI with a VAE": lambda s: {
        **prefixed(s, "model.diffusion_model."),
        "first_stage_model.decoder.bias": torch.zeros(2),
    },
}
WITH_AVERAGE: dict[str, Callable[[State, State], Any]] = {
    "public DiT code": lambda raw, ema: {"model": raw, "ema": ema, "opt": {}},
    "shadow parameters": lambda raw, ema: {
        "model": raw,
        "ema": {"decay": 0.999, "num_updates": 3, "shadow_params": list(ema.values())},
    },
    "shadow parameters of DDP": lambda raw, ema: {
        "model": prefixed(raw, "module."),
        "ema": {"decay": 0.999, "shadow_params": list(ema.values()), "collected_params": []},
    },
    "shadow by name": lambda raw, ema: {"model": raw, "ema": {"decay": 0.9, "shadow": ema}},
    "timm": lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema},
    "ema_state_dict": lambda raw, ema: {"state_dict": raw, "ema_state_dict": ema},
    "params_ema": lambda raw, ema: {"params": raw, "params_ema": ema},
    "ema_model": lambda raw, ema: {"model": raw, "ema_model": prefixed(ema, "module.")},
    "Lightning": lambda raw, ema: {
        "state_dict": {**prefixed(raw, "model."), **prefixed(ema, "ema_model.")}
    },
    "bare and prefixed": lambda raw, ema: {**raw, **prefixed(ema, "ema.")},
    "ema_pytorch": lambda raw, ema: {
        "model": raw,
        "ema": {
            "initted": torch.tensor(True),
            **prefixed(raw, "online_model."),
            **prefixed(ema, "ema_model."),
        },
    },
    "latent-diffusion": lambda raw, ema: {
        "state_dict": {
            **prefixed(raw, "model."),
            "model_ema.decay": torch.tensor(0.99),
            **squashed(ema),
        }
    },
    "swa_utils beside": lambda raw, ema: {
        "model": raw,
        "swa": {"n_averaged": torch.tensor(1), **prefixed(ema, "module.")},
    },
}


@pytest.mark.cases("C2")
@pytest.mark.parametrize("wrap", WITHOUT_AVERAGE.values(), ids=WITHOUT_AVERAGE)
def test_a_wrapped_state_dict_is_found(tmp_path: Path, wrap: Wrap) -> None:
    state = weights()
    loaded = load(tmp_path, wrap(described(state)))
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


@pytest.mark.cases("C2")
@pytest.mark.parametrize("wrap", WITH_AVERAGE.values(), ids=WITH_AVERAGE)
def test_the_moving_average_is_preferred_and_named(
    tmp_path: Path, wrap: Callable[[State, State], Any], caplog: pytest.LogCaptureFixture
) -> None:
    raw = weights()
    content = {
        **wrap(raw, other(raw)),
        "note": {"fitv2_metadata": metadata_tensor(Metadata(CONFIG))},
    }
    with caplog.at_level(logging.WARNING, "comfyui_fitv2"):
        loaded = load(tmp_path, content)
    assert loaded.keys() == raw.keys()
    assert all(torch.equal(loaded[key], raw[key] + 1) for key in raw)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "used the moving average" in message
    assert "checkpoint.pt" in message


@pytest.mark.cases("C2")
def test_the_averaged_model_of_torch_is_loaded(tmp_path: Path) -> None:
    model = FiT(CONFIG)
    model.register_buffer(METADATA_TENSOR, metadata_tensor(Metadata(CONFIG)))
    loaded = load(tmp_path, AveragedModel(model).state_dict())
    assert torch.equal(loaded[KEY], model.state_dict()[KEY])


@pytest.mark.cases("C2")
def test_the_same_from_safetensors(tmp_path: Path) -> None:
    state, path = weights(), tmp_path / "model.safetensors"
    both = {**prefixed(described(state), "_orig_mod."), **prefixed(other(state), "ema_model.")}
    save_file(both, path)
    assert torch.equal(load_checkpoint(path).model.state_dict()[KEY], state[KEY] + 1)


def test_an_average_that_fits_no_weights_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = weights()
    shadow = list(other(state).values())[1:]
    loaded = load(tmp_path, {"model": described(state), "ema": {"shadow_params": shadow}})
    assert torch.equal(loaded[KEY], state[KEY])
    assert "its average ema.shadow_params fits none of its weights" in caplog.text


@pytest.mark.cases("C2")
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (argparse.Namespace(lr=1e-4), r"training settings \(argparse.Namespace\)"),
        (Path("data"), r"training settings \(pathlib"),
        (np.float64(0.5), "a NumPy number"),
        (np.arange(3), "a NumPy number or array"),
        (nn.Linear(2, 2), r"a whole Python object \(torch.nn.modules.linear.Linear\)"),
    ],
    ids=["namespace", "path", "scalar", "array", "module"],
)
def test_what_is_no_weight_is_named_with_a_command_that_saves_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: object, message: str
) -> None:
    state = described(weights())
    with pytest.raises(CheckpointError, match=message) as error:
        load(tmp_path, {"model": state, "args": extra})
    # The command of the message does what it says.
    command = tmp_path / "command.py"
    command.write_text(str(error.value).partition('python -c "')[2].removesuffix('"'))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(command))
    assert torch.equal(read_checkpoint(tmp_path / "weights.pt").state_dict[KEY], state[KEY])


@pytest.mark.cases("C2")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.optim.AdamW(FiT(CONFIG).parameters()).state_dict(), "the state of an optimizer"),
        ({"state.blocks.0.attn.qkv.weight.exp_avg": torch.zeros(2)}, "the state of an optimizer"),
        ({"exp_avg/blocks.0.attn.qkv.lora_A": torch.zeros(2)}, "the state of an optimizer"),
        (
            {
                "diffusion_model.blocks.0.attn.qkv.lora_A.weight": torch.zeros(1, 2),
                "diffusion_model.blocks.0.attn.qkv.lora_B.weight": torch.zeros(2, 1),
            },
            "a LoRA.*Load LoRA",
        ),
        ({"lora_unet_blocks_0_attn_qkv.lora_down.weight": torch.zeros(1, 2)}, "a LoRA"),
        ({"blocks.0.attn.qkv.lokr_w1": torch.zeros(1, 2)}, "a LoRA"),
        ({"decay": 0.99, "shadow_params": [torch.zeros(2)]}, "lists of tensors without names"),
        ({"epoch": 3}, "without weights"),
        ({}, "without weights"),
    ],
    ids=[
        "optimizer",
        "sharded optimizer",
        "own",
        "lora",
        "kohya",
        "lokr",
        "shadow",
        "epoch",
        "empty",
    ],
)
def test_what_holds_no_model_is_called_what_it_is(
    tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, content)


def test_dicts_that_hold_themselves_or_are_very_deep_end(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(400):
        deep = {"state_dict": deep}
    circle: dict[str, Any] = OrderedDict()
    circle["model"] = circle
    for content in (deep, circle):
        with pytest.raises(CheckpointError, match=r"without weights|damaged"):
            load(tmp_path, content)

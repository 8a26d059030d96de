"""ComfyUI's flags for fp8 change the matrices alone, and nothing where they are not given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from host.inside import run_inside

pytestmark = pytest.mark.host

START = """
from comfy.cli_args import args
from fitv2.nodes.host import loading, precision
def load(fp8, least=0):
    args.fp8_e4m3fn_unet, precision.LEAST_SAVING = fp8, least
    return loading.load({checkpoint!r})
def weights(patcher):
    return patcher.model.diffusion_model.state_dict()
generator = torch.Generator().manual_seed(0)
x, t = torch.randn(2, 4, 16, 24, generator=generator), torch.tensor([0.2, 0.8])
def evaluate(patcher):
    dtype = patcher.model.get_dtype_inference()
    with torch.inference_mode():
        y = torch.tensor([3, 256])
        out = patcher.model.diffusion_model(x.to(dtype), t, class_labels=y)
    return out.float()
"""


@pytest.fixture(scope="module")
def seen(bundled_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was seen in one process, by name."""
    path = tmp_path_factory.mktemp("saved") / "saved.safetensors"
    code = f"""
import comfy.sd
from fitv2.comfyui_fitv2.checkpoint import read_checkpoint
from fitv2.nodes.host import network, vaes
plain, patcher = load(False), load(True)
before = {{key: value.clone() for key, value in weights(patcher).items()}}
in_fp8 = [key for key, value in before.items() if value.dtype == torch.float8_e4m3fn]
exact, with_matrices = evaluate(plain), evaluate(patcher)

comfy.sd.save_checkpoint({str(path)!r}, patcher)
saved = read_checkpoint({str(path)!r}).state_dict
not_saved = [
    key for key, value in before.items()
    if saved[key].dtype != value.dtype or not torch.equal(saved[key].float(), value.float())
]
args.fp8_e4m3fn_unet = False
loaded_again = (evaluate(loading.load({str(path)!r})) - with_matrices).abs().max().item()

patched, keys = patcher.clone(), ("blocks.2.attn.qkv.weight", "final_layer.linear.weight")
patches = {{f"diffusion_model.{{key}}": (torch.ones(before[key].shape),) for key in keys}}
patched.add_patches(patches, 0.25)
for key in patches:
    patched.patch_weight_to_device(key, torch.device("cpu"))
now = weights(patched)
dtypes_kept = all(now[key].dtype == before[key].dtype for key in keys)
changes = [(now[key].float() - before[key].float()).mean().item() for key in keys]
patched.unpatch_model()
after = weights(patched)
restored = all(torch.equal(after[key].float(), before[key].float()) for key in before)

for value in plain.model.diffusion_model.parameters():
    value.copy_(value.to(torch.float8_e4m3fn))
errors = [
    ((out - exact).norm() / exact.norm()).item() for out in (with_matrices, evaluate(plain))
]
import comfy.memory_management, comfy.ops
comfy.memory_management.aimdo_enabled = True  # layers get no weights before those of the file
config = plain.model.metadata.config
lazy = {{}}
empty = network.HostFiT(
    "fitv2", config, torch.float8_e4m3fn, None, comfy.ops.manual_cast, torch.bfloat16
)
for name, layer in empty.named_modules():
    for own in ("weight", "bias"):
        dtype = getattr(layer, own + "_comfy_model_dtype", None)
        dtype = dtype or getattr(getattr(layer, own, None), "dtype", None)
        if dtype is not None:
            lazy[f"{{name}}.{{own}}"] = str(dtype)
comfy.memory_management.aimdo_enabled = False
fast_vae, args.fp16_vae = vaes._slowness(), True
answer(dict(
    in_fp8=in_fp8,
    others=sorted({{str(value.dtype) for key, value in before.items() if key not in in_fp8}}),
    without_flag=sorted({{str(value.dtype) for value in weights(load(False)).values()}}),
    small=sorted({{str(value.dtype) for value in weights(load(True, 10**9)).values()}}),
    errors=errors, not_saved=not_saved, loaded_again=loaded_again, dtypes_kept=dtypes_kept,
    lazy=lazy, changes=changes, restored=restored, fast_vae=fast_vae, slow_vae=vaes._slowness(),
))
"""
    return run_inside(START.format(checkpoint=str(bundled_checkpoint)) + code)


def test_only_matrices_are_in_fp8(seen: dict[str, Any]) -> None:
    assert len(seen["in_fp8"]) == 8 * 5
    assert all(
        (".attn." in key or ".mlp." in key) and key.endswith(".weight") for key in seen["in_fp8"]
    )
    assert len(seen["others"]) == 1
    assert "float8" not in str([seen["others"], seen["without_flag"]])


def test_layers_that_get_their_weights_late_have_the_same_precisions(seen: dict[str, Any]) -> None:
    in_fp8 = [name for name, dtype in seen["lazy"].items() if dtype == "torch.float8_e4m3fn"]
    assert sorted(in_fp8) == sorted(seen["in_fp8"])
    assert set(seen["lazy"].values()) == {"torch.float8_e4m3fn", "torch.bfloat16"}


def test_a_small_model_stays_as_it_is_in_its_file(seen: dict[str, Any]) -> None:
    assert seen["small"] == ["torch.bfloat16"]


def test_small_layers_in_more_bits_lower_the_error(seen: dict[str, Any]) -> None:
    """The velocity's relative error, with matrices in fp8 and with all weights in fp8."""
    matrices, everything = seen["errors"]
    assert matrices < 0.03
    assert matrices < 0.75 * everything


def test_a_saved_model_has_every_weight_and_loads_again(seen: dict[str, Any]) -> None:
    assert not seen["not_saved"]
    assert seen["loaded_again"] < 1e-3


def test_patches_change_matrices_and_other_weights_alike(seen: dict[str, Any]) -> None:
    assert seen["changes"] == pytest.approx([0.25, 0.25], abs=0.01)
    assert seen["dtypes_kept"]
    assert seen["restored"]


def test_a_vae_in_fp16_on_a_cpu_is_warned_of(seen: dict[str, Any]) -> None:
    assert seen["fast_vae"] is None
    assert "--fp16-vae" in seen["slow_vae"]

"""Weights in fewer than 16 bits: fp8 is read, everything else is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .checkpoint_error import CheckpointError
from .untrusted_json import parse_json

FP8 = (
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.float8_e4m3fnuz,
    torch.float8_e5m2fnuz,
)
COMPUTED_IN = torch.bfloat16
"""What fp8 weights become for computing: no layer here computes in fp8."""

_HOST_FORMAT = ".comfy_quant"
"""Ending of the key of a layer's format, JSON in a uint8 tensor, in files of ComfyUI."""
_HOST_FP8 = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
_WEIGHT_SCALES = (".weight_scale", ".scale_weight", ".weight.scale", ".weight_scale_inv")
"""Endings of keys of the factor that leads from a stored weight to the true one."""
_FOR_ACTIVATIONS = (".input_scale", ".scale_input")
_MARKER = "scaled_fp8"
_REFUSED = {
    ".weight_scale_2": "NVFP4",
    ".pre_quant_scale": "ModelOpt's smoothed",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes int8",
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
}
"""Other formats, by the ending of a key that only they have."""


def is_fp8(tensors: Mapping[str, Tensor]) -> bool:
    """Whether some of these weights are stored in fp8, with scales or without."""
    return any(value.dtype in FP8 or key.endswith(_HOST_FORMAT) for key, value in tensors.items())


def without_scales(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with scaled fp8 ones multiplied out, in bf16; plain fp8 stays as it is.

    Scales are one number per weight or one per row. Raises ``CheckpointError`` for other kinds of
    quantisation, by their names.
    """
    plain = dict(tensors)
    formats = {key: plain.pop(key) for key in tensors if key.endswith(_HOST_FORMAT)}
    for key, stored in formats.items():
        name = _format_name(path, key, stored)
        if name not in _HOST_FP8:
            raise _refusal(path, name, key)
        weight_key = f"{key.removesuffix(_HOST_FORMAT)}.weight"
        weight = plain.get(weight_key)
        if weight is not None and weight.dtype is torch.uint8:
            plain[weight_key] = weight.view(_HOST_FP8[name])
    for key in tensors:
        for ending, name in _REFUSED.items():
            if key.endswith(ending) or ".quant_state." in key:
                raise _refusal(path, name if key.endswith(ending) else "bitsandbytes", key)
        if key == _MARKER or key.endswith((*_FOR_ACTIVATIONS, f".{_MARKER}")):
            del plain[key]
    for key in [key for key in plain if key.endswith(_WEIGHT_SCALES)]:
        ending = next(ending for ending in _WEIGHT_SCALES if key.endswith(ending))
        weight_key, scale = f"{key.removesuffix(ending)}.weight", plain.pop(key)
        weight = plain.get(weight_key)
        if weight is None or weight.dtype not in FP8 or not _fits(scale, weight):
            raise _refusal(path, "block-scaled or integer", key)
        rows = scale.float().reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale.float()
        plain[weight_key] = (weight.float() * rows).to(COMPUTED_IN)
    if left := next((key for key in plain if "scale" in key.rpartition(".")[2]), None):
        raise _refusal(path, "scaled", left)
    return plain


def _fits(scale: Tensor, weight: Tensor) -> bool:
    """Whether a scale is one number, or one per row of the weight."""
    per_row = scale.numel() == len(weight) == scale.shape[0] if scale.ndim else False
    return scale.is_floating_point() and (scale.numel() == 1 or per_row)


def _format_name(path: Path, key: str, stored: Tensor) -> str:
    try:
        return str(parse_json(bytes(stored.flatten().tolist()))["format"])
    except (ValueError, TypeError, KeyError):
        raise CheckpointError(
            path, f"quantised weights whose format {key} cannot be read."
        ) from None


def _refusal(path: Path, name: str, key: str) -> CheckpointError:
    return CheckpointError(
        path,
        f"{name} quantised weights ({key}), which FiTv2 does not read. Use the model in bf16, "
        "fp16, fp32 or fp8, with one fp8 scale per weight or per row.",
    )

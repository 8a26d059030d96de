"""Files that people get instead of a checkpoint, and what the error must say about each."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig, Metadata

CONFIG = FiTConfig(hidden_size=32, depth=2, num_heads=2, num_classes=3, adaln_lora_dim=4)


def weights() -> dict[str, Tensor]:
    return FiT(CONFIG).state_dict()


def safetensors(state: dict[str, Tensor], metadata: str | None = None) -> bytes:
    return save(state, {"fitv2": metadata or Metadata(CONFIG).to_json()})


def torch_pickle(content: Any, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


class _Code:
    """Creates the folder ``path`` when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.path),)


@dataclass(frozen=True)
class Broken:
    name: str
    content: Callable[[Path], bytes]
    """Bytes of the file, from the path that code in it would create."""
    message: str
    """A regular expression that the error matches."""


def _without(*keys: str) -> dict[str, Tensor]:
    return {k: v for k, v in weights().items() if k not in keys}


def _with(**changes: Any) -> dict[str, Tensor]:
    return {**weights(), **{k.replace("__", "."): v for k, v in changes.items()}}


_NAN = torch.full((16,), float("nan"))
_OTHER_CONFIG = Metadata(
    FiTConfig(hidden_size=32, depth=2, num_heads=2, num_classes=7, adaln_lora_dim=4)
).to_json()


def _with_metadata(**more: Any) -> str:
    return json.dumps({**json.loads(Metadata(CONFIG).to_json()), **more})


BROKEN = [
    Broken("empty.safetensors", lambda _: b"", "an empty file"),
    Broken(
        "page.safetensors",
        lambda _: b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
        "a web page",
    ),
    Broken(
        "pointer.safetensors",
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a Git LFS pointer",
    ),
    Broken(
        "cut.safetensors", lambda _: safetensors(weights())[:-1000], "a truncated safetensors file"
    ),
    Broken(
        "cut_header.safetensors",
        lambda _: safetensors(weights())[:600],
        "a truncated safetensors file: it has 600 of its",
    ),
    Broken(
        "bad_header.safetensors",
        lambda _: (4).to_bytes(8, "little") + b"{{{{",
        "a damaged safetensors file",
    ),
    Broken(
        "cut.bin", lambda _: torch_pickle(weights())[:-5000], "a truncated or damaged torch pickle"
    ),
    Broken(
        "code.bin",
        lambda path: torch_pickle({"x_embedder.proj.weight": _Code(path)}),
        r"more than weights.*refused",
    ),
    Broken(
        "code.safetensors", lambda path: pickle.dumps(_Code(path)), r"more than weights.*refused"
    ),
    Broken("list.pt", lambda _: torch_pickle([1, 2, 3]), "a torch pickle of list without weights"),
    Broken(
        "noise.ckpt",
        lambda _: bytes(range(255, 0, -1)),
        "neither safetensors nor a torch pickle: 255 bytes",
    ),
    Broken(
        "other_model.safetensors",
        lambda _: safetensors({"input_blocks.0.0.weight": torch.zeros(2)}),
        "not a FiTv2: .*input_blocks.0.0.weight",
    ),
    Broken(
        "dit.safetensors",
        lambda _: safetensors({k: v for k, v in weights().items() if "fc1" not in k}),
        "without SwiGLU, such as DiT",
    ),
    Broken(
        "missing.safetensors",
        lambda _: safetensors(_without("blocks.1.mlp.fc2.bias")),
        r"1 tensors are missing \(blocks.1.mlp.fc2.bias\)",
    ),
    Broken(
        "unexpected.safetensors",
        lambda _: safetensors(_with(extra=torch.zeros(1))),
        r"1 tensors do not belong to it \(extra\)",
    ),
    Broken(
        "shapes.safetensors",
        lambda _: safetensors(weights(), _OTHER_CONFIG),
        r"embedding_table.weight is \(4, 32\), expected \(8, 32\)",
    ),
    Broken(
        "nan.safetensors",
        lambda _: safetensors(_with(final_layer__linear__bias=_NAN)),
        r"NaN.*final_layer.linear.bias",
    ),
    Broken(
        "integers.safetensors",
        lambda _: safetensors(_with(final_layer__linear__bias=torch.zeros(16, dtype=torch.int8))),
        "non-float",
    ),
    Broken(
        "newer.safetensors",
        lambda _: safetensors(weights(), '{"config": {"colour": 1}}'),
        "unknown configuration fields colour.*newer version",
    ),
    Broken(
        "synonyms.safetensors",
        lambda _: safetensors(weights(), _with_metadata(class_synonyms=[["a"], "b", [7]])),
        "metadata cannot be used: class_synonyms must be a list of lists of texts",
    ),
    Broken(
        "nested_synonyms.safetensors",
        lambda _: safetensors(weights(), '{"class_synonyms": ' + "[" * 100_000),
        "nested too deeply",
    ),
    Broken(
        "recommended.safetensors",
        lambda _: safetensors(
            weights(),
            _with_metadata(recommended_extrapolation=[{"up_to": None, "method": "auto"}]),
        ),
        "metadata cannot be used: recommended_extrapolation must name a method",
    ),
    Broken(
        "garbled.safetensors",
        lambda _: safetensors(weights(), "no json"),
        "metadata cannot be used",
    ),
    Broken(
        "no_preset.bin",
        lambda _: torch_pickle(weights()),
        "hidden size 32, 2 blocks and LoRA rank 4.*no preset has that shape",
    ),
]

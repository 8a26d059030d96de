"""Read FiTv2 checkpoints, official and our own, and write our own.

The file type is detected from the content; the extension is ignored. Pickles are read without running
code. Every way in which a file can be wrong gets an error that names it.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .config import PRESETS, FiTConfig
from .flow import flow_of
from .labels import IMAGENET_CLASSES, imagenet_class_names
from .metadata import METADATA_KEY, LatentFormat, Metadata
from .model import FiT
from .page_cache import read_ahead
from .whole_file import write_whole

METADATA_TENSOR = "fitv2_metadata"
"""Key of a uint8 tensor that holds the metadata JSON, for hosts that save tensors but no metadata."""

_PREFIXES = ("module.", "_orig_mod.", "model.diffusion_model.", "diffusion_model.")
_CONTAINERS = ("model_ema", "ema", "state_dict", "model")
_LISTED = 4
_AGAIN = "Download or copy it again, and compare its size with the source."


class CheckpointError(ValueError):
    """A file that is not a usable FiTv2 checkpoint; the message says which, what it is, what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Checked weights under the official keys, still mapped from the file, with their metadata."""

    path: Path
    state_dict: dict[str, Tensor]
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready to sample from, in eval mode."""

    model: FiT
    metadata: Metadata

    @property
    def config(self) -> FiTConfig:
        return self.metadata.config

    @property
    def class_names(self) -> list[str] | None:
        names = self.metadata.class_names
        return None if names is None else list(names)

    @property
    def latent_format(self) -> LatentFormat | None:
        return self.metadata.latent_format


def load_checkpoint(
    path: str | os.PathLike[str], *, preset: str | None = None, dtype: torch.dtype | None = None
) -> LoadedModel:
    """Build the model of a checkpoint; see ``read_checkpoint`` for the errors.

    Weights keep the file's dtype unless ``dtype`` is given.
    """
    checkpoint, model = _read(Path(path), preset)
    state_dict = checkpoint.state_dict
    dtype = dtype or state_dict["x_embedder.proj.weight"].dtype
    # Assigned, not copied: where the dtype is the file's, the mapped weights are the only copy in memory.
    model.load_state_dict({k: v.to(dtype) for k, v in state_dict.items()}, strict=True, assign=True)
    return LoadedModel(model.eval(), checkpoint.metadata)


def read_checkpoint(path: str | os.PathLike[str], *, preset: str | None = None) -> Checkpoint:
    """Read a safetensors file or torch pickle, whatever its name, and check it against its model.

    The configuration is that of the ``preset`` where one is given, else our metadata's, else that of
    the preset with the same shapes. Raises ``CheckpointError`` for anything but a complete FiTv2 with
    finite weights, and ``FileNotFoundError`` where there is no file.
    """
    return _read(Path(path), preset)[0]


def _read(path: Path, preset: str | None) -> tuple[Checkpoint, FiT]:
    """The checkpoint, and its model on the meta device."""
    tensors, metadata_json = _read_tensors(path)
    tensors = _strip_prefixes(tensors)
    embedded = tensors.pop(METADATA_TENSOR, None)
    if metadata_json is None and embedded is not None:
        metadata_json = bytes(embedded.tolist()).decode("utf-8", errors="replace")
    _require_fit(path, tensors)
    metadata = _metadata(path, tensors, metadata_json, preset)
    _drop_learned_sigma(tensors, metadata.config)
    model = FiT(metadata.config, device="meta")
    _check_tensors(path, tensors, model)
    return Checkpoint(path, tensors, metadata), model


def save_checkpoint(
    path: str | os.PathLike[str], state_dict: Mapping[str, Tensor], metadata: Metadata
) -> None:
    """Write a safetensors checkpoint, atomically; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.contiguous() for key, value in state_dict.items()}
    with write_whole(path) as temporary:
        save_file(tensors, temporary, {"format": "pt", METADATA_KEY: metadata.to_json()})


def metadata_tensor(metadata: Metadata) -> Tensor:
    """The metadata as the uint8 tensor to store under ``METADATA_TENSOR``."""
    return torch.frombuffer(bytearray(metadata.to_json().encode()), dtype=torch.uint8)


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    if path.is_dir():
        raise CheckpointError(path, "a folder, not a checkpoint file. Name the file in it.")
    with path.open("rb") as file:
        head = file.read(512)
    size = path.stat().st_size
    text = head.lstrip().lower()
    if not size:
        raise CheckpointError(path, f"an empty file. {_AGAIN}")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            path,
            "a Git LFS pointer, not the weights it points to. Run `git lfs pull`, or download the file "
            "itself.",
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(
            path,
            "a web page (HTML), not weights. Use the page's download link to get the file.",
        )
    if head[8:9] == b"{":
        return _read_safetensors(path, size, header_size=int.from_bytes(head[:8], "little"))
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_pickle(path, is_zip=head.startswith(b"PK")), None
    if head.startswith(b"GGUF"):
        raise CheckpointError(
            path,
            "a GGUF file, which FiTv2 does not use. Expected safetensors or a torch pickle (.bin, "
            ".pt).",
        )
    raise CheckpointError(
        path,
        f"neither safetensors nor a torch pickle: {size} bytes that begin with {head[:16]!r}. "
        f"Expected a FiTv2 checkpoint. {_AGAIN}",
    )


def _read_safetensors(
    path: Path, size: int, header_size: int
) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            read_ahead(path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, (file.metadata() or {}).get(METADATA_KEY)
    except SafetensorError as error:
        needed = _safetensors_size(path, size, header_size)
        if needed > size:
            raise CheckpointError(
                path,
                f"a truncated safetensors file: it has {size} of its {needed} or more bytes. "
                f"{_AGAIN}",
            ) from None
        raise CheckpointError(path, f"a damaged safetensors file ({error}). {_AGAIN}") from None


def _safetensors_size(path: Path, size: int, header_size: int) -> int:
    """The size in bytes that the header tells, or the least it can be where it is not readable."""
    with path.open("rb") as file:
        file.seek(8)
        try:
            header = json.loads(file.read(min(header_size, size)))
            header.pop("__metadata__", None)
            data = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            data = 0
    return 8 + header_size + data


def _read_pickle(path: Path, is_zip: bool) -> dict[str, Tensor]:
    # torch.load takes any *path* that ends in .safetensors for safetensors, whatever it holds. An open
    # file it reads as what it is, but it cannot map one into memory.
    by_path = is_zip and path.suffix != ".safetensors"
    if by_path:
        read_ahead(path)
    try:
        with path.open("rb") as file:
            content = torch.load(
                path if by_path else file, map_location="cpu", weights_only=True, mmap=by_path
            )
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        code = f" ({named[1]})" if named else ", or is damaged"
        raise CheckpointError(
            path,
            f"a pickle that holds more than weights{code}. Unpickling that can run code, so it was "
            "refused. Ask its author for a safetensors file.",
        ) from None
    except Exception as error:  # a pickle that is cut or overwritten fails in any way
        reason = str(error).partition(". ")[0] or type(error).__name__
        raise CheckpointError(
            path, f"a truncated or damaged torch pickle ({reason}). {_AGAIN}"
        ) from None
    return _unwrap(path, content)


def _unwrap(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict of a pickle, which may hold it among other training state."""
    tensors: dict[str, Tensor] = {}
    if isinstance(content, Mapping):
        for key in _CONTAINERS:
            if isinstance(content.get(key), Mapping):
                return _unwrap(path, content[key])
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            path,
            f"a torch pickle of {type(content).__name__} without weights. Expected a state dict.",
        )
    return tensors


def _strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in _PREFIXES if any(k.startswith(p) for k in tensors)), None):
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def _require_fit(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse other models as such, instead of with a list of every key that they lack."""
    if "x_embedder.proj.weight" not in tensors or "blocks.0.attn.qkv.weight" not in tensors:
        sample = ", ".join(sorted(tensors)[:_LISTED])
        raise CheckpointError(
            path,
            f"not a FiTv2: its {len(tensors)} tensors begin with {sample}, and x_embedder.proj.weight "
            "or blocks.0.attn.qkv.weight is missing.",
        )
    if "blocks.0.mlp.fc1_g.weight" not in tensors:
        raise CheckpointError(
            path,
            "a transformer without SwiGLU, such as DiT or SiT. Only FiT checkpoints can be loaded.",
        )


def _metadata(
    path: Path, tensors: Mapping[str, Tensor], metadata_json: str | None, preset: str | None
) -> Metadata:
    metadata = None
    if metadata_json is not None:
        try:
            metadata = Metadata.from_json(metadata_json)
        except ValueError as error:
            raise CheckpointError(
                path, f"a FiTv2 checkpoint whose metadata cannot be used: {error}."
            ) from None
    if preset is not None or metadata is None:
        config = _config_by_shape(path, tensors, preset)
        metadata = Metadata(config) if metadata is None else replace(metadata, config=config)
    if metadata.class_names is None and metadata.config.num_classes == IMAGENET_CLASSES:
        metadata = replace(metadata, class_names=imagenet_class_names())
    return metadata


def _drop_learned_sigma(tensors: dict[str, Tensor], config: FiTConfig) -> None:
    """Version 1 also predicts a variance, after the noise in each token; no sampler here uses it."""
    if not flow_of(config).predicts_noise:
        return
    outputs = config.in_channels * config.patch_size**2
    for key in ("final_layer.linear.weight", "final_layer.linear.bias"):
        if key in tensors and len(tensors[key]) == 2 * outputs:
            tensors[key] = tensors[key][:outputs]


def _config_by_shape(path: Path, tensors: Mapping[str, Tensor], preset: str | None) -> FiTConfig:
    """The preset of these shapes, or the one named.

    High-resolution presets have the shapes of the base ones, so they must be asked for by name.
    """
    try:
        hidden = tensors["x_embedder.proj.weight"].shape[0]
        # Without LoRA (version 1) one layer makes the whole modulation.
        rank = (
            tensors["blocks.0.adaLN_modulation.1.weight"].shape[0]
            if "blocks.0.adaLN_modulation.2.weight" in tensors
            else 0
        )
        num_classes = tensors["y_embedder.embedding_table.weight"].shape[0] - 1
    except KeyError as error:
        raise CheckpointError(
            path, f"an incomplete FiTv2 checkpoint: {error.args[0]} is missing."
        ) from None
    depth = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    shape = (hidden, depth, rank)
    candidates = {preset: FiTConfig.preset(preset)} if preset else PRESETS
    for config in candidates.values():
        if shape == (config.hidden_size, config.depth, config.adaln_lora_dim):
            return replace(config, num_classes=num_classes)
    expected = "; ".join(
        f"{name}: {c.hidden_size}, {c.depth}, {c.adaln_lora_dim}" for name, c in candidates.items()
    )
    raise CheckpointError(
        path,
        f"a FiTv2 of hidden size {hidden}, {depth} blocks and LoRA rank {rank}, without "
        f"{METADATA_KEY!r} metadata, and no preset has that shape ({expected}). Its head count cannot "
        "be known from the weights: save it with metadata.",
    )


def _check_tensors(path: Path, tensors: dict[str, Tensor], model: FiT) -> None:
    config, expected = model.config, model.state_dict()
    problems = []
    if missing := [key for key in expected if key not in tensors]:
        problems.append(f"{len(missing)} tensors are missing ({_shorten(missing)})")
    if unexpected := [key for key in tensors if key not in expected]:
        problems.append(f"{len(unexpected)} tensors do not belong to it ({_shorten(unexpected)})")
    misshapen = [
        key for key in expected if key in tensors and tensors[key].shape != expected[key].shape
    ]
    if misshapen:
        shapes = [
            f"{key} is {tuple(tensors[key].shape)}, expected {tuple(expected[key].shape)}"
            for key in misshapen
        ]
        problems.append(f"{len(misshapen)} tensors have the wrong shape ({_shorten(shapes)})")
    if problems:
        raise CheckpointError(
            path,
            f"not a FiTv2 of {config.depth} blocks and hidden size {config.hidden_size}: "
            f"{'; '.join(problems)}.",
        )
    if bad := [key for key, value in tensors.items() if not _is_finite(value)]:
        raise CheckpointError(
            path,
            f"a FiTv2 with NaN, infinite or non-float weights in {len(bad)} tensors "
            f"({_shorten(bad)}). Its training or its copy went wrong.",
        )


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point():
        return False
    if value.element_size() == 1:  # no reductions in fp8
        value = value.float()
    # One pass without a temporary, unlike isfinite().all(); NaN propagates.
    low, high = value.aminmax()
    return bool(low.isfinite() & high.isfinite())


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")

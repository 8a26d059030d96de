"""Read FiTv2 checkpoints, official and our own, and write our own.

Tensors are checked against the model that they claim to be, whose configuration our own files carry
and official ones show by their shapes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from .architecture import config_by_shape
from .checkpoint_error import CheckpointError
from .config import FiTConfig
from .flow import flow_of
from .labels import IMAGENET_CLASSES, imagenet_class_names
from .metadata import METADATA_KEY, METADATA_TENSOR, LatentFormat, Metadata
from .model import FiT
from .preview import feature_count
from .quantized import COMPUTED_IN, FP8
from .weights import Weights, read_weights
from .whole_file import write_whole

__all__ = [
    "METADATA_TENSOR",
    "Checkpoint",
    "CheckpointError",
    "LoadedModel",
    "load_checkpoint",
    "metadata_tensor",
    "read_checkpoint",
    "read_metadata",
    "save_checkpoint",
]

_LISTED = 4


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Checked weights under the official keys, still mapped from the file, with their metadata."""

    path: Path
    state_dict: dict[str, Tensor]
    metadata: Metadata
    dtype: torch.dtype
    """Precision to compute in: that of the file, or bf16 where it is fp8."""


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
    def class_synonyms(self) -> list[list[str]] | None:
        synonyms = self.metadata.class_synonyms
        return None if synonyms is None else [list(texts) for texts in synonyms]

    @property
    def latent_format(self) -> LatentFormat | None:
        return self.metadata.latent_format


def load_checkpoint(
    path: str | os.PathLike[str], *, preset: str | None = None, dtype: torch.dtype | None = None
) -> LoadedModel:
    """Build the model of a checkpoint; see ``read_checkpoint`` for the files and the errors.

    Weights keep the file's dtype unless ``dtype`` is given; those of a file in fp8 become bf16.
    Raises ``ValueError`` for a ``dtype`` of fp8, in which nothing can be computed.
    """
    if dtype in FP8:
        raise ValueError(f"A FiT cannot compute in {dtype}. Choose bf16, fp16 or fp32.")
    checkpoint, model = _read(Path(path), preset)
    state_dict = checkpoint.state_dict
    dtype = dtype or checkpoint.dtype
    # Assigned, not copied: where the dtype is the file's, the mapped weights are the only copy in
    # memory.
    model.load_state_dict({k: v.to(dtype) for k, v in state_dict.items()}, strict=True, assign=True)
    return LoadedModel(model.eval(), checkpoint.metadata)


def read_checkpoint(path: str | os.PathLike[str], *, preset: str | None = None) -> Checkpoint:
    """Read a safetensors file or torch pickle, whatever its name, and check it against its model.

    ``path`` may also be the index or a part of a checkpoint in several files, or the folder of one.
    What other trainers wrap around the weights is removed; a moving average among it is preferred,
    and the log says so. Weights in fp8 stay in fp8, and become bf16 where they have scales. The
    configuration is that of the ``preset`` where one is given, else our metadata's, else that
    of the preset with the same shapes. Raises ``CheckpointError`` for anything but a complete FiTv2
    with finite weights, and ``FileNotFoundError`` where there is no file.
    """
    return _read(Path(path), preset)[0]


def read_metadata(path: str | os.PathLike[str], *, preset: str | None = None) -> Metadata:
    """What a safetensors checkpoint says of its model, without reading its weights.

    It is as quick for a large file as for a small one, and does not check the weights.
    ``path`` and ``preset`` are those of ``read_checkpoint``. Raises ``CheckpointError`` for other
    files, pickles among them, and ``FileNotFoundError`` where there is no file.
    """
    weights = read_weights(Path(path), header_only=True)
    _require_fit(weights.path, weights.tensors)
    return _metadata(weights, preset)


def _read(path: Path, preset: str | None) -> tuple[Checkpoint, FiT]:
    """The checkpoint, and its model on the meta device."""
    weights = read_weights(path)
    path, tensors = weights.path, weights.tensors
    _require_fit(path, tensors)
    metadata = _metadata(weights, preset)
    _require_size(path, tensors, metadata.config)
    _drop_learned_sigma(tensors, metadata.config)
    model = FiT(metadata.config, device="meta")
    model.recommended_extrapolation = metadata.recommended_extrapolation
    _check_tensors(path, tensors, model)
    dtype = COMPUTED_IN if weights.is_fp8 else tensors["x_embedder.proj.weight"].dtype
    return Checkpoint(path, tensors, metadata, dtype), model


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


def _require_fit(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse other models as such, instead of with a list of every key that they lack."""
    if "x_embedder.proj.weight" not in tensors or "blocks.0.attn.qkv.weight" not in tensors:
        sample = ", ".join(sorted(tensors)[:_LISTED])
        raise CheckpointError(
            path,
            f"not a FiTv2: its {len(tensors)} tensors begin with {sample}, and "
            "x_embedder.proj.weight or blocks.0.attn.qkv.weight is missing.",
        )
    if "blocks.0.mlp.fc1_g.weight" not in tensors:
        raise CheckpointError(
            path,
            "a transformer without SwiGLU, such as DiT or SiT. Only FiT checkpoints can be loaded.",
        )


def _metadata(weights: Weights, preset: str | None) -> Metadata:
    metadata = None
    if weights.metadata_json is not None:
        try:
            metadata = Metadata.from_json(weights.metadata_json)
            _require_preview(metadata)
        except ValueError as error:
            why = str(error).removesuffix(".")
            raise CheckpointError(
                weights.path, f"a FiTv2 checkpoint whose metadata cannot be used: {why}."
            ) from None
    if preset is not None or metadata is None:
        config = config_by_shape(weights, preset)
        metadata = Metadata(config) if metadata is None else replace(metadata, config=config)
    if metadata.class_names is None and metadata.config.num_classes == IMAGENET_CLASSES:
        metadata = replace(metadata, class_names=imagenet_class_names())
    return metadata


def _require_preview(metadata: Metadata) -> None:
    """Raise ``ValueError`` where the preview colours are not those of the model's latents."""
    latent_format, channels = metadata.latent_format, metadata.config.in_channels
    if latent_format is None or latent_format.latent_rgb_factors is None:
        return
    expected = feature_count(latent_format.preview_kind, channels)
    if len(latent_format.latent_rgb_factors) != expected:
        raise ValueError(
            f"{len(latent_format.latent_rgb_factors)} latent_rgb_factors for {channels} channels, "
            f"which have {expected}"
        )


def _require_size(path: Path, tensors: Mapping[str, Tensor], config: FiTConfig) -> None:
    """Refuse a configuration that is far from the weights, before a model of it is built."""
    stored = sum(value.numel() for value in tensors.values())
    if config.depth > len(tensors) or config.hidden_size > stored:
        raise CheckpointError(
            path,
            f"not a FiTv2 of {config.depth} blocks and hidden size {config.hidden_size}, as its "
            f"metadata says: it has {len(tensors)} tensors with {stored} weights in total.",
        )


def _drop_learned_sigma(tensors: dict[str, Tensor], config: FiTConfig) -> None:
    """Version 1 also predicts a variance, after the noise in each token; no solver uses it."""
    if not flow_of(config).predicts_noise:
        return
    outputs = config.in_channels * config.patch_size**2
    for key in ("final_layer.linear.weight", "final_layer.linear.bias"):
        if key in tensors and tensors[key].shape[:1] == (2 * outputs,):
            tensors[key] = tensors[key][:outputs]


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
    if not value.is_floating_point() or value.is_meta or value.layout is not torch.strided:
        return False
    if value.element_size() == 1:  # no reductions in fp8
        value = value.float()
    # One pass without a temporary, unlike isfinite().all(); NaN propagates.
    low, high = value.aminmax()
    return bool(low.isfinite() & high.isfinite())


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")

"""FiTv2, the Flexible Vision Transformer for any resolution (arXiv 2410.13925), in pure PyTorch."""

from .checkpoint import (
    Checkpoint,
    CheckpointError,
    LoadedModel,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from .config import PRESETS, FiTConfig, LatentFormat, Metadata
from .extrapolation import Extrapolation
from .labels import Label, LabelError, resolve_labels
from .model import FiT, patchify, unpatchify
from .resolution import ASPECT_RATIOS, Resolution, flexible_resize, for_ratio, snap
from .sampling import sample

__all__ = [
    "ASPECT_RATIOS",
    "PRESETS",
    "Checkpoint",
    "CheckpointError",
    "Extrapolation",
    "FiT",
    "FiTConfig",
    "Label",
    "LabelError",
    "LatentFormat",
    "LoadedModel",
    "Metadata",
    "Resolution",
    "flexible_resize",
    "for_ratio",
    "load_checkpoint",
    "patchify",
    "read_checkpoint",
    "resolve_labels",
    "sample",
    "save_checkpoint",
    "snap",
    "unpatchify",
]

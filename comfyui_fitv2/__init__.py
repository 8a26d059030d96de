"""FiTv2, the Flexible Vision Transformer for any resolution (arXiv 2410.13925), in pure PyTorch."""

from .checkpoint import (
    Checkpoint,
    CheckpointError,
    LoadedModel,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from .config import PRESETS, FiTConfig
from .extrapolation import Extrapolation
from .guidance import Guidance
from .labels import Blend, Entry, Label, LabelError, class_tensor, read_entries, resolve_labels
from .metadata import LatentFormat, Metadata
from .model import FiT, patchify, unpatchify
from .resolution import ASPECT_RATIOS, Resolution, flexible_resize, for_ratio, snap
from .sampling import sample
from .solvers import DEFAULT_SOLVER, SOLVERS, Solver, SolverError

__all__ = [
    "ASPECT_RATIOS",
    "DEFAULT_SOLVER",
    "PRESETS",
    "SOLVERS",
    "Blend",
    "Checkpoint",
    "CheckpointError",
    "Entry",
    "Extrapolation",
    "FiT",
    "FiTConfig",
    "Guidance",
    "Label",
    "LabelError",
    "LatentFormat",
    "LoadedModel",
    "Metadata",
    "Resolution",
    "Solver",
    "SolverError",
    "class_tensor",
    "flexible_resize",
    "for_ratio",
    "load_checkpoint",
    "patchify",
    "read_checkpoint",
    "read_entries",
    "resolve_labels",
    "sample",
    "save_checkpoint",
    "snap",
    "unpatchify",
]

"""FiT as one of ComfyUI's own models: the pack's only contact with ComfyUI's internals.

Nodes import from here, and ``comfy_api``; ``surface.py`` lists what this package relies on.

``sigma.py`` draws how ComfyUI's sigma becomes FiT's time, and back.

Class ids travel as integers. Latents keep the scale of the VAE on every wire: ComfyUI itself
applies ``LatentFormat``. Latents of several sizes go through ComfyUI as a NestedTensor, which it
flattens to (rows, 1, all values) with ``latent_shapes``, and reach the network as a list, for one
pass without padding.
"""

from comfy.model_patcher import ModelPatcher

from .cell_cache import CellCache
from .checkpoints import (
    checkpoint_of,
    file_key,
    find_checkpoint,
    read_metadata,
    with_checkpoint,
)
from .conditioning import Conditioning, conditioning
from .decoding import Vae, decode, decoding_key, parts_of
from .files import (
    SavedFile,
    new_output_folder,
    path_of,
    relative_to_output,
    save_temporary,
    temporary_prefix,
)
from .guidance import with_guidance
from .loading import (
    WEIGHT_DTYPES,
    checkpoint_names,
    checkpoint_path,
    load,
    load_copy,
    register_model_folders,
)
from .model import extrapolation_of, require_fit, require_flow, with_extrapolation
from .model_key import model_key
from .notices import show
from .pack_folder import arrange
from .packing import forbids_packing
from .previews import ImageProgress, PreviewOfAll, StepCallback, preview_size
from .sampling import (
    SamplingSettings,
    empty_latent,
    grid_of,
    sample,
    sample_packed,
    sampler,
)
from .vaes import check_queued_prompts
from .web import Query, RouteError, add_json_routes

__all__ = [
    "WEIGHT_DTYPES",
    "CellCache",
    "Conditioning",
    "ImageProgress",
    "ModelPatcher",
    "PreviewOfAll",
    "Query",
    "RouteError",
    "SamplingSettings",
    "SavedFile",
    "StepCallback",
    "Vae",
    "add_json_routes",
    "arrange",
    "check_queued_prompts",
    "checkpoint_names",
    "checkpoint_of",
    "checkpoint_path",
    "conditioning",
    "decode",
    "decoding_key",
    "empty_latent",
    "extrapolation_of",
    "file_key",
    "find_checkpoint",
    "forbids_packing",
    "grid_of",
    "load",
    "load_copy",
    "model_key",
    "new_output_folder",
    "parts_of",
    "path_of",
    "preview_size",
    "read_metadata",
    "register_model_folders",
    "relative_to_output",
    "require_fit",
    "require_flow",
    "sample",
    "sample_packed",
    "sampler",
    "save_temporary",
    "show",
    "temporary_prefix",
    "with_checkpoint",
    "with_extrapolation",
    "with_guidance",
]

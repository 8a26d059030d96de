"""FiT Loader: a checkpoint file to a MODEL."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..comfyui_fitv2.config import PRESETS
from . import host

BUNDLED = Path(__file__).resolve().parent.parent / "models"
DEFAULT_CHECKPOINT = "fitv2_flags256.safetensors"
# Ours first: a name in both means the file that the user put into the folder made for it.
CHECKPOINT_FOLDERS = ("fit", "diffusion_models")
PRESET_AUTO = "auto"


def register_model_folders() -> None:
    """Let the host list ``models/fit`` beside its own folders, and the checkpoint and VAE that come with the pack."""
    folder_paths.add_model_folder_path("fit", str(Path(folder_paths.models_dir) / "fit"))
    for kind in ("fit", "vae"):
        folder_paths.add_model_folder_path(kind, str(BUNDLED / kind))
    paths, extensions = folder_paths.folder_names_and_paths["fit"]
    folder_paths.folder_names_and_paths["fit"] = (
        paths,
        extensions | folder_paths.supported_pt_extensions,
    )


def _checkpoint_names() -> list[str]:
    return list(
        dict.fromkeys(
            name for folder in CHECKPOINT_FOLDERS for name in folder_paths.get_filename_list(folder)
        )
    )


def _checkpoint_path(name: str) -> str:
    for folder in CHECKPOINT_FOLDERS:
        path = folder_paths.get_full_path(folder, name)
        if path is not None:
            return path
    searched = ", ".join(
        path for folder in CHECKPOINT_FOLDERS for path in folder_paths.get_folder_paths(folder)
    )
    raise FileNotFoundError(
        f"{name} is in none of the model folders ({searched}). Put it into one of them, then refresh the node list (R)."
    )


class FiTLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTLoader",
            display_name="FiT Loader",
            category="FiT",
            description="Loads a FiTv2 checkpoint as a MODEL that every stock sampler, LoRA and merge node accepts.",
            search_aliases=[
                "fitv2",
                "flexible vision transformer",
                "load fit",
                "class-conditional",
                "SiT",
                "DiT",
                "checkpoint",
            ],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=_checkpoint_names(),
                    default=DEFAULT_CHECKPOINT,
                    tooltip="Safetensors or torch file in models/fit or models/diffusion_models. The one that comes with the pack draws 256 flags.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(host.WEIGHT_DTYPES),
                    default="auto",
                    tooltip="Precision of the weights. auto: what suits the device. fp32 is exact and takes twice the memory of bf16.",
                ),
                io.Combo.Input(
                    "preset",
                    options=[PRESET_AUTO, *PRESETS],
                    default=PRESET_AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="Architecture. auto: from the file. The high-resolution (-hr) releases have the shapes of the base ones: choose theirs here.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The FiT, for FiT nodes and for any stock node that takes a MODEL."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, checkpoint: str, weight_dtype: str, preset: str = PRESET_AUTO
    ) -> tuple[int, int]:
        # A training run may write the same name again: then it is another model.
        status = Path(_checkpoint_path(checkpoint)).stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(
        cls, checkpoint: str, weight_dtype: str, preset: str = PRESET_AUTO
    ) -> io.NodeOutput:
        return io.NodeOutput(
            host.load(
                _checkpoint_path(checkpoint),
                weight_dtype,
                None if preset == PRESET_AUTO else preset,
            )
        )

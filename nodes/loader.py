"""FiT Loader: a checkpoint file to a MODEL."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..comfyui_fitv2.config import PRESETS
from ..comfyui_fitv2.metadata import Metadata
from ..comfyui_fitv2.resolution import trained_size
from . import host

DEFAULT_CHECKPOINT = "fitv2_flags256.safetensors"
AUTO = "auto"


class FiTLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = host.checkpoint_names()
        return io.Schema(
            node_id="FiTLoader",
            display_name="FiT Loader",
            category="FiT",
            description="Loads a FiTv2 checkpoint as a MODEL for stock samplers, LoRAs and merges. "
            "Its VAE is loaded with Load VAE: this node shows which one after it has run.",
            search_aliases=[
                "fitv2",
                "loader",
                "checkpoint",
                "checkpoint loader",
                "load checkpoint",
                "load model",
                "flag",
                "country",
                "imagenet",
                "class-conditional",
                "flexible vision transformer",
                "sit",
                "dit",
            ],
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=names,
                    default=DEFAULT_CHECKPOINT
                    if DEFAULT_CHECKPOINT in names
                    else "".join(names[:1]),
                    tooltip="A safetensors or torch file in models/fit or models/diffusion_models. "
                    "The one that comes with the pack generates 256 flags.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(host.WEIGHT_DTYPES),
                    default=AUTO,
                    tooltip="Precision of the weights. auto: what suits the device. fp32: exact, "
                    "with twice the memory of bf16.",
                ),
                io.Combo.Input(
                    "preset",
                    options=[AUTO, *PRESETS],
                    default=AUTO,
                    optional=True,
                    advanced=True,
                    tooltip="Architecture. auto: read from the file. The high-resolution releases "
                    "(-hr) cannot be told from the base ones: choose theirs here.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    tooltip="The FiT, for FiT nodes and for any stock node that takes a MODEL."
                ),
                io.String.Output(
                    "report", tooltip="Which VAE fits, the classes, and the trained size."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, checkpoint: str, weight_dtype: str, preset: str = AUTO
    ) -> tuple[int, int]:
        # A training run may write the same name again: then it is another model.
        status = host.checkpoint_path(checkpoint).stat()
        return status.st_mtime_ns, status.st_size

    @classmethod
    def execute(cls, checkpoint: str, weight_dtype: str, preset: str = AUTO) -> io.NodeOutput:
        path = str(host.checkpoint_path(checkpoint))
        model = host.load(path, weight_dtype, None if preset == AUTO else preset)
        metadata = host.require_fit(model).metadata
        text = report(metadata)
        # Two lines have room on the node; the pad of FiT Resolution has the trained size.
        host.show(f"{_vae(metadata)}\n{_classes(metadata)}")
        return io.NodeOutput(model, text, ui=ui.PreviewText(text))


def report(metadata: Metadata) -> str:
    """One line on a model; what is needed first in a workflow, its VAE, comes first."""
    trained = f"trained on up to {trained_size(metadata.config.train_length)}"
    return " · ".join((_vae(metadata), _classes(metadata), trained))


def _vae(metadata: Metadata) -> str:
    return f"Use {metadata.vae}"


def _classes(metadata: Metadata) -> str:
    named = "" if metadata.class_names else " without names: use their numbers"
    return f"{metadata.config.num_classes} classes{named}"

"""FiT Loader: a checkpoint file to a MODEL."""

from __future__ import annotations

from comfy_api.latest import io

from ..comfyui_fitv2.config import PRESETS
from . import host

DEFAULT_CHECKPOINT = "fitv2_flags256.safetensors"
AUTO = "auto"


class FiTLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTLoader",
            display_name="FiT Loader",
            category="FiT",
            description="Loads a FiTv2 checkpoint as a MODEL for stock samplers, LoRAs and merges.",
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
                    options=host.checkpoint_names(),
                    default=DEFAULT_CHECKPOINT,
                    tooltip="A safetensors or torch file in models/fit or models/diffusion_models. "
                    "The bundled one generates 256 flags.",
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
                )
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
        return io.NodeOutput(host.load(path, weight_dtype, None if preset == AUTO else preset))

"""FiT Resolution: an aspect ratio and a token budget, or an exact size, to an empty latent."""

from __future__ import annotations

import torch
from comfy import model_management
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..comfyui_fitv2.resolution import ASPECT_RATIOS, TOKEN_PIXELS, VAE_FACTOR, for_ratio, snap
from . import host

EXACT = "exact size"
MAX_PIXELS = 16384
# Those of the published models, where no MODEL is connected to tell.
DEFAULT_TRAIN_TOKENS = 256
DEFAULT_CHANNELS = 4


class FiTResolution(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def side(name: str) -> io.Int.Input:
            return io.Int.Input(
                name,
                default=256,
                min=TOKEN_PIXELS,
                max=MAX_PIXELS,
                step=TOKEN_PIXELS,
                tooltip=f'Pixels, used when aspect_ratio is "{EXACT}"; taken to the nearest multiple of {TOKEN_PIXELS}.',
            )

        return io.Schema(
            node_id="FiTResolution",
            display_name="FiT Resolution",
            category="FiT",
            description="An empty latent of an aspect ratio and token budget, or of an exact size. A token covers 16 × 16 pixels.",
            search_aliases=[
                "fit size",
                "aspect ratio",
                "width height",
                "empty latent",
                "token budget",
                "resolution picker",
                "portrait",
                "landscape",
            ],
            inputs=[
                io.Combo.Input(
                    "aspect_ratio",
                    options=[*ASPECT_RATIOS, EXACT],
                    default="1:1",
                    tooltip=f'Width : height. "{EXACT}" takes width and height instead.',
                ),
                io.Int.Input(
                    "tokens",
                    default=DEFAULT_TRAIN_TOKENS,
                    min=1,
                    max=65536,
                    tooltip="Most tokens the picture may have, 16 × 16 pixels each. 256 is what the models were trained on; more goes beyond it.",
                ),
                side("width"),
                side("height"),
                io.Int.Input(
                    "batch_size", default=1, min=1, max=4096, tooltip="Pictures drawn at once."
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Optional: takes the training length and latent channels from this FiT.",
                ),
            ],
            outputs=[
                io.Latent.Output(tooltip="Empty latent of that size."),
                io.Int.Output("width", tooltip="Pixels, a multiple of 16."),
                io.Int.Output("height", tooltip="Pixels, a multiple of 16."),
                io.String.Output(
                    "report",
                    tooltip="Size, tokens, and how far beyond the training length, in one line.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        aspect_ratio: str,
        tokens: int,
        width: int,
        height: int,
        batch_size: int,
        model: ModelPatcher | None = None,
    ) -> io.NodeOutput:
        resolution = (
            snap(width, height) if aspect_ratio == EXACT else for_ratio(aspect_ratio, tokens)
        )
        config = None if model is None else host.require_fit(model).metadata.config
        samples = torch.zeros(
            batch_size,
            config.in_channels if config else DEFAULT_CHANNELS,
            *resolution.latent_size,
            device=model_management.intermediate_device(),
            dtype=model_management.intermediate_dtype(),
        )
        report = resolution.report(config.train_tokens if config else DEFAULT_TRAIN_TOKENS)
        if aspect_ratio == EXACT and (resolution.width, resolution.height) != (width, height):
            report += f" · from {width} × {height}"
        return io.NodeOutput(
            {"samples": samples, "downscale_ratio_spacial": VAE_FACTOR},
            resolution.width,
            resolution.height,
            report,
        )

"""FiT Resolution: an aspect ratio and a token budget, or an exact size, to an empty latent."""

from __future__ import annotations

from comfy_api.latest import io

from ..comfyui_fitv2.resolution import ASPECT_RATIOS, TOKEN_PIXELS, for_ratio, snap
from . import host, inputs

EXACT = "exact size"
MAX_PIXELS = 16384
# Those of the published models, for when no MODEL is connected.
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
                tooltip=f'Pixels, for the aspect ratio "{EXACT}"; rounded to a multiple of '
                f"{TOKEN_PIXELS}.",
            )

        return io.Schema(
            node_id="FiTResolution",
            display_name="FiT Resolution",
            category="FiT",
            description="An empty latent with an aspect ratio and a token budget, or with an exact "
            f"size. A token covers {inputs.TOKEN}.",
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
                    tooltip=f'Width : height. "{EXACT}" uses width and height instead.',
                ),
                inputs.tokens(
                    f"Maximum number of tokens ({inputs.TOKEN} each). The models were trained on "
                    "256; more is beyond their training."
                ),
                side("width"),
                side("height"),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=4096,
                    tooltip="Number of images to generate at once.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Optional: take the training length and latent channels from this FiT.",
                ),
            ],
            outputs=[
                io.Latent.Output(tooltip="An empty latent of that size."),
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
        model: host.ModelPatcher | None = None,
    ) -> io.NodeOutput:
        exact = aspect_ratio == EXACT
        resolution = snap(width, height) if exact else for_ratio(aspect_ratio, tokens)
        train_tokens, channels = DEFAULT_TRAIN_TOKENS, DEFAULT_CHANNELS
        if model is not None:
            config = host.require_fit(model).metadata.config
            train_tokens, channels = config.train_tokens, config.in_channels
        report = resolution.report(train_tokens)
        if exact and (resolution.width, resolution.height) != (width, height):
            report += f" · from {width} × {height}"
        latent = host.empty_latent(resolution, channels, batch_size)
        return io.NodeOutput(latent, resolution.width, resolution.height, report)

"""FiT Resolution: an aspect ratio and a token budget, or an exact size, to an empty latent."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..comfyui_fitv2.resolution import (
    ASPECT_RATIOS,
    MAX_PIXELS,
    TOKEN_PIXELS,
    for_ratio,
    parse_ratio,
    snap,
    trained_size,
)
from . import host, inputs

EXACT, CUSTOM = "exact size", "custom ratio"
# Those of the published models, for when no MODEL is connected.
DEFAULT_TRAIN_LENGTH = 16
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
                tooltip=f'Pixels, for the aspect ratio "{EXACT}" alone; rounded to a multiple of '
                f"{TOKEN_PIXELS}.",
            )

        return io.Schema(
            node_id="FiTResolution",
            display_name="FiT Resolution",
            category="FiT",
            description="An empty latent: an aspect ratio within a number of tokens, or an exact "
            f"size. A token covers {inputs.TOKEN}.",
            search_aliases=[
                "fitv2",
                "size",
                "ratio",
                "aspect",
                "aspect ratio",
                "resolution",
                "width",
                "height",
                "portrait",
                "landscape",
                "square",
                "tokens",
                "empty latent",
                "latent size",
            ],
            inputs=[
                io.Combo.Input(
                    "aspect_ratio",
                    options=[*ASPECT_RATIOS, CUSTOM, EXACT],
                    default="1:1",
                    tooltip=f'Width : height. "{CUSTOM}" uses the text in custom_ratio, "{EXACT}" '
                    "width and height instead.",
                ),
                inputs.tokens(
                    f"Maximum number of tokens ({inputs.TOKEN} each), for any aspect ratio but "
                    f'"{EXACT}". Most models were trained on up to '
                    f"{trained_size(DEFAULT_TRAIN_LENGTH)}; images of more are less good."
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
                    tooltip="Optional: the FiT, for its trained size and latent channels.",
                ),
                # After all others: saved workflows hold values by position.
                io.String.Input(
                    "custom_ratio",
                    default="2.39:1",
                    optional=True,
                    tooltip=f'Any width : height, for the aspect ratio "{CUSTOM}": 5:4, 16:10, '
                    "2.39:1, 1:3.5.",
                ),
            ],
            outputs=[
                io.Latent.Output(tooltip="An empty latent of that size."),
                io.Int.Output("width", tooltip="Pixels, a multiple of 16."),
                io.Int.Output("height", tooltip="Pixels, a multiple of 16."),
                io.String.Output(
                    "report",
                    tooltip="Size, tokens, and how they compare with the trained size.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, aspect_ratio: str, custom_ratio: str = "") -> bool | str:
        """Accept any ratio, also from scripts and widgets that do not choose from the list.

        The host leaves the check of an input to this function if it is named here.
        """
        ratio = custom_ratio if aspect_ratio == CUSTOM else aspect_ratio
        if ratio is None or ratio == EXACT:  # a connected text is known later
            return True
        try:
            parse_ratio(ratio)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        aspect_ratio: str,
        tokens: int,
        width: int,
        height: int,
        batch_size: int,
        model: host.ModelPatcher | None = None,
        custom_ratio: str = "",
    ) -> io.NodeOutput:
        exact = aspect_ratio == EXACT
        ratio = custom_ratio if aspect_ratio == CUSTOM else aspect_ratio
        resolution = snap(width, height) if exact else for_ratio(ratio, tokens)
        train_tokens, channels = DEFAULT_TRAIN_LENGTH**2, DEFAULT_CHANNELS
        if model is not None:
            config = host.require_fit(model).metadata.config
            train_tokens, channels = config.train_tokens, config.in_channels
        changed = exact and (resolution.width, resolution.height) != (width, height)
        asked = f"{width} × {height} → " if changed else ""
        report = asked + resolution.report(train_tokens)
        if changed:  # all else is on the pad already
            host.show(f"{asked}{resolution}")
        latent = host.empty_latent(resolution, channels, batch_size)
        return io.NodeOutput(
            latent, resolution.width, resolution.height, report, ui=ui.PreviewText(report)
        )

"""FiT Guidance: which channels are guided, and when."""

from __future__ import annotations

from comfy_api.latest import io

from ..comfyui_fitv2.guidance import GUIDED_CHANNELS, Guidance
from . import host

FIRST_THREE = "first three"
CHANNELS = {FIRST_THREE: GUIDED_CHANNELS, "all": None}


class FiTGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def time(name: str, default: float, tooltip: str) -> io.Float.Input:
            return io.Float.Input(
                name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip
            )

        return io.Schema(
            node_id="FiTGuidance",
            display_name="FiT Guidance",
            category="FiT",
            description="Sets how samplers guide this FiT towards its classes: on which latent "
            "channels, how strongly over time, and between which times.",
            search_aliases=[
                "fitv2",
                "cfg",
                "cfg schedule",
                "classifier-free guidance",
                "guidance scale",
                "guidance interval",
                "interval",
                "power cosine",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The FiT. The sampler still sets the scale."),
                io.Combo.Input(
                    "channels",
                    options=list(CHANNELS),
                    default=FIRST_THREE,
                    tooltip="Latent channels to guide. first three: as the published sampler does. "
                    "all: the whole latent, which makes colours stronger.",
                ),
                io.Float.Input(
                    "power",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="0: a constant scale. Above 0: the scale falls from the sampler's at "
                    "noise to 1 at the image, earlier for a greater power.",
                ),
                time("start", 0.0, "Time at which guidance starts: 0 is noise, 1 is the image."),
                time(
                    "end",
                    1.0,
                    "Time at which guidance ends. Steps outside of start to end take half the "
                    "time, because the null class is not evaluated.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with this guidance, for any sampler.")],
        )

    @classmethod
    def execute(
        cls, model: host.ModelPatcher, channels: str, power: float, start: float, end: float
    ) -> io.NodeOutput:
        host.require_fit(model)
        guidance = Guidance(power=power, interval=(start, end), channels=CHANNELS[channels])
        return io.NodeOutput(host.with_guidance(model, guidance))

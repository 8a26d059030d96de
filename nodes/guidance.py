"""FiT Guidance: which channels are guided, and when."""

from __future__ import annotations

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..comfyui_fitv2.guidance import GUIDED_CHANNELS, Guidance
from . import host

CHANNELS = {"first three": GUIDED_CHANNELS, "all": None}


class FiTGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTGuidance",
            display_name="FiT Guidance",
            category="FiT",
            description="How any sampler guides this FiT towards its classes: on which latent channels, how strongly over time, and between which times.",
            search_aliases=[
                "cfg",
                "classifier-free guidance",
                "guidance interval",
                "power cosine",
                "cfg schedule",
                "guidance scale",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The FiT. The scale itself stays the sampler's."),
                io.Combo.Input(
                    "channels",
                    options=list(CHANNELS),
                    default="first three",
                    tooltip="Guided latent channels. first three: as the published sampler does. all: the whole latent; colours get stronger.",
                ),
                io.Float.Input(
                    "power",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="0: the same scale throughout. Above 0 it falls from the sampler's at noise to 1 at the picture, the sooner the greater the power.",
                ),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Time at which guidance begins: 0 is noise, 1 the picture.",
                ),
                io.Float.Input(
                    "end",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Time at which guidance ends. Outside start to end the null class is not evaluated, so steps there are twice as fast.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The FiT, guided so by every sampler.")],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, channels: str, power: float, start: float, end: float
    ) -> io.NodeOutput:
        host.require_fit(model)
        return io.NodeOutput(
            host.with_guidance(
                model, Guidance(power=power, interval=(start, end), channels=CHANNELS[channels])
            )
        )

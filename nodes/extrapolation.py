"""FiT Extrapolation: how rotary positions stretch beyond the trained length."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..comfyui_fitv2.config import FiTConfig
from ..comfyui_fitv2.extrapolation import ALL_METHODS, ATTENTION_SCALES, Extrapolation
from ..comfyui_fitv2.resolution import TOKEN_PIXELS
from . import host


class FiTExtrapolation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTExtrapolation",
            display_name="FiT Extrapolation",
            category="FiT",
            description="Lets a FiT draw larger pictures than it was trained on, without training, by a RoPE extrapolation method.",
            search_aliases=[
                "rope scaling",
                "ntk",
                "yarn",
                "position interpolation",
                "visionntk",
                "visionyarn",
                "high resolution",
                "attention scale",
                "lumina",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The FiT. It is not changed itself: other branches of the graph keep their own method.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(ALL_METHODS),
                    default="ntk",
                    tooltip="none: positions go on as they are. linear: squeezed into the trained length. ntk, ntk-by-parts, yarn, frequency-aware: slow waves "
                    "squeezed, fast ones kept. time-aware: from linear at noise to ntk at the picture.",
                ),
                io.Boolean.Input(
                    "decoupled",
                    default=True,
                    tooltip="On: height and width are stretched each by its own factor (VisionNTK, VisionYaRN). Off: both by the longer side's.",
                ),
                io.Combo.Input(
                    "attention_scale",
                    options=list(ATTENTION_SCALES),
                    default="none",
                    tooltip="Sharpens attention over more tokens than trained. pro1, pro2: as the published code, by side and by area. paper: as printed.",
                ),
                io.Int.Input(
                    "train_length",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Tokens on a side, 16 pixels each, beyond which a picture is longer than trained. 0: the model's own.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Optional: the latent that will be drawn; the report then says what the method does to it.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The FiT with this method, for any sampler."),
                io.String.Output(
                    "report",
                    tooltip="What the method does to the connected latent, or from what size on it acts.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        method: str,
        decoupled: bool,
        attention_scale: str,
        train_length: int,
        latent: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        config = host.require_fit(model).metadata.config
        extrapolation = Extrapolation(
            method, decoupled, attention_scale, train_length or config.train_length
        )
        text = report(
            extrapolation,
            None if latent is None else host.grid_of(latent["samples"], config),
            config,
        )
        return io.NodeOutput(host.with_extrapolation(model, extrapolation), text)


def report(extrapolation: Extrapolation, grid: tuple[int, int] | None, config: FiTConfig) -> str:
    """What ``extrapolation`` does to a (rows, columns) ``grid``, or, without one, from what size on it does anything."""
    length = extrapolation.train_length
    pixels = length * TOKEN_PIXELS
    if grid is None:
        return f"{extrapolation.label}: acts on sides of more than {length} tokens ({pixels} px)."
    rows, columns = grid
    size = f"{columns} × {rows} tokens"
    if not extrapolation.changes(rows, columns):
        if extrapolation.method != "none":
            because = f"no side is longer than the trained {length} tokens ({pixels} px)"
        else:
            because = (
                "no method is chosen"
                if extrapolation.attention_scale == "none"
                else "the picture is too small for the attention scale"
            )
        return f"{extrapolation.label}: INACTIVE on {size}, {because}. The picture is the same as without this node."
    height, width = extrapolation.factors(rows, columns)
    parts = (
        [f"height ×{height:.3g}, width ×{width:.3g} of the trained {length} tokens"]
        if extrapolation.method != "none"
        else []
    )
    if (magnitude := extrapolation.magnitude(rows, columns)) != 1:
        parts.append(f"attention logits ×{magnitude**2:.3g}")
    return f"{extrapolation.label} on {size}: {'; '.join(parts)}."

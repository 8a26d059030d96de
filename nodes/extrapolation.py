"""FiT Extrapolation: how rotary positions stretch beyond the trained side."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..comfyui_fitv2.config import FiTConfig
from ..comfyui_fitv2.extrapolation import (
    ATTENTION_SCALES,
    AUTO,
    METHOD_CHOICES,
    Extrapolation,
)
from ..comfyui_fitv2.resolution import TOKEN_PIXELS
from . import host


class FiTExtrapolation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTExtrapolation",
            display_name="FiT Extrapolation",
            category="FiT",
            description="Lets a FiT generate larger images than it was trained on, without "
            "training, with a RoPE extrapolation method.",
            search_aliases=[
                "fitv2",
                "rope",
                "rope scaling",
                "ntk",
                "yarn",
                "position interpolation",
                "visionntk",
                "visionyarn",
                "high resolution",
                "hires",
                "upscale",
                "larger",
                "attention scale",
                "lumina",
                "riflex",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The FiT. It is not changed: other branches of the graph keep their "
                    "own method.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHOD_CHOICES),
                    default=AUTO,
                    tooltip="auto: what the checkpoint recommends for the size, or else ntk; "
                    "nothing within the trained side. none: positions as they are. linear: "
                    "compressed into the trained side. ntk, ntk-by-parts, yarn, frequency-aware: "
                    "slow waves compressed, fast ones kept. riflex: one wave lengthened, against "
                    "repetition. time-aware: from linear at noise to ntk at the image.",
                ),
                io.Boolean.Input(
                    "decoupled",
                    default=True,
                    tooltip="On: height and width are stretched by a factor of their own "
                    "(VisionNTK, VisionYaRN). Off: both by that of the longer side.",
                ),
                io.Combo.Input(
                    "attention_scale",
                    options=list(ATTENTION_SCALES),
                    default="none",
                    tooltip="Sharpens attention over more than the trained tokens. pro1, pro2: as "
                    "in the published code, by side and by area. paper: as in the paper.",
                ),
                io.Int.Input(
                    "train_length",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="Trained side, in tokens of 16 pixels: positions on longer sides are "
                    "stretched. 0: the model's own.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="Optional: the latent to sample. The report then says what the method "
                    "does to it.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The model with this method, for any sampler."),
                io.String.Output(
                    "report",
                    tooltip="What the method does to the connected latent, or where it acts.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: host.ModelPatcher,
        method: str,
        decoupled: bool,
        attention_scale: str,
        train_length: int,
        latent: io.Latent.LatentDict | None = None,
    ) -> io.NodeOutput:
        metadata = host.require_fit(model).metadata
        extrapolation = Extrapolation(method, decoupled, attention_scale, train_length or None)
        extrapolation = metadata.filled_in(extrapolation)
        grid = None if latent is None else host.grid_of(model, latent)
        text = report(extrapolation, grid, metadata.config)
        host.show(text)
        changed = host.with_extrapolation(model, extrapolation)
        return io.NodeOutput(changed, text, ui=ui.PreviewText(text))


def report(extrapolation: Extrapolation, grid: tuple[int, int] | None, config: FiTConfig) -> str:
    """One line on what ``extrapolation`` does to a (rows, columns) ``grid`` of this model's tokens.

    Without a grid it says from which size the method acts. For "auto" it must be filled in by
    ``Metadata.filled_in``, so that it knows what is recommended.
    """
    extrapolation = extrapolation.for_model(config)
    label, length = extrapolation.label, extrapolation.train_length or config.train_length
    side = f"{length} tokens ({length * TOKEN_PIXELS} px)"
    if grid is None:
        chosen = f": {_choices(extrapolation)}" if extrapolation.method == AUTO else ""
        return f"{label}: acts on sides longer than the trained side of {side}{chosen}."
    rows, columns = grid
    size = f"{columns} × {rows} tokens"
    chosen = extrapolation.at(rows, columns)
    if not extrapolation.changes(rows, columns, config):
        if chosen.method != "none" and max(extrapolation.factors(rows, columns)) > 1:
            because = f"{chosen.method} acts only on longer sides"
        elif extrapolation.method != "none":
            because = f"no side is longer than the trained side of {side}"
        elif extrapolation.attention_scale != "none":
            because = "the image is too small for the attention scale"
        else:
            because = "no method is chosen"
        return (
            f"{label}: INACTIVE on {size}, {because}. The image is the same as without this node."
        )
    parts = []
    if extrapolation.method == AUTO:
        label = f"{label} chooses {chosen.label}"
    if chosen.method != "none":
        height, width = extrapolation.factors(rows, columns)
        factors = f"height ×{height:.3g}, width ×{width:.3g}"
        parts.append(f"{factors} of the trained side ({length} tokens)")
    magnitude = extrapolation.magnitude(rows, columns)
    if magnitude != 1:
        parts.append(f"attention logits ×{magnitude**2:.3g}")
    return f"{label} on {size}: {'; '.join(parts)}."


def _choices(extrapolation: Extrapolation) -> str:
    """What "auto" chooses, from small images to large ones."""
    parts = []
    for recommendation in extrapolation.recommended:
        factor = recommendation.up_to
        chosen = Extrapolation(
            recommendation.method, recommendation.decoupled, recommendation.attention_scale
        )
        limit = "" if factor is None else f" up to {factor:g} times the trained side"
        parts.append(f"{chosen.label}{limit}")
    return ", then ".join(parts)

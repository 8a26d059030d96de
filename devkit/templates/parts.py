"""What several workflows have: models, a sampler, and how much room a node takes."""

from __future__ import annotations

from typing import Any

from ..canvas import GAP, Canvas, Node, Output

CHECKPOINT = "fitv2_flags256.safetensors"
VAE = "fit_tiny_vae.safetensors"
SOLVER = {"steps": 20, "solver": "ab2", "guidance": 2.0}

SIZES = {
    "FiTLoader": (320, 150),
    "VAELoader": (320, 90),
    "FiTClassLabel": (320, 230),
    "FiTResolution": (320, 450),
    "FiTSampler": (320, 280),
    "KSampler": (320, 280),
    "VAEDecode": (240, 70),
    "VAEEncode": (240, 70),
    "SaveImage": (440, 380),
    "FiTExtrapolation": (320, 220),
    "FiTGuidance": (320, 190),
    "FiTResolutionSweep": (360, 700),
    "FiTSweepSampler": (340, 540),
    "FiTSweepDecoder": (340, 400),
    "FiTCompareSheet": (860, 900),
    "PreviewAny": (360, 240),
    "PrimitiveInt": (320, 110),
    "BatchLatentsNode": (240, 170),
    "APG": (320, 140),
    "CFGZeroStar": (320, 60),
    "SolidMask": (320, 110),
    "MaskComposite": (320, 150),
    "SetLatentNoiseMask": (240, 70),
}
"""Width and height that hold a node's contents on the classic canvas and in Nodes 2.0."""
SAMPLER_WITH_PREVIEW = 510
"""Height of a sampler once it has drawn: the last preview stays in it."""
PICKER, PAD = "class_picker", "shape"
"""Widgets of our JavaScript, which App mode shows too."""


def loaders(canvas: Canvas) -> tuple[Node, Node]:
    return canvas.add("FiTLoader", checkpoint=CHECKPOINT), canvas.add("VAELoader", vae_name=VAE)


def named_label(canvas: Canvas, called: str, model: Output, text: str) -> Node:
    """One of several class labels, which App mode then tells apart."""
    label = canvas.add("FiTClassLabel", called, model=model, text=text)
    label.labels["text"] = f"{called} class"
    return label


def chosen(label: Node) -> list[tuple[Node, str]]:
    """What App mode shows of a class label: its text, and its picker."""
    return [(label, "text"), (label, PICKER)]


def shaped(size: Node) -> list[tuple[Node, str]]:
    """What App mode shows of a resolution: its ratio, and its pad."""
    return [(size, "aspect_ratio"), (size, PAD)]


def sampler(
    canvas: Canvas,
    model: Output,
    label: Node,
    latent: Output,
    called: str | None = None,
    **changes: Any,
) -> Node:
    links = {"model": model, "positive": label[0], "negative": label[1], "latent": latent}
    return canvas.add("FiTSampler", called, **{**links, **SOLVER, **changes})


def one_image(
    canvas: Canvas, note: Node, loader: Node, vae: Node, label: Node, size: Node, drawn: Node
) -> None:
    """What makes an image of one sampler's latent, and all of it in columns."""
    decode = canvas.add("VAEDecode", samples=drawn[0], vae=vae[0])
    save = canvas.add("SaveImage", images=decode[0], filename_prefix="fit")
    canvas.column(0, 0, note)
    top = note.size[1] + GAP
    canvas.column(0, top, loader, vae)
    canvas.column(380, top, label, size)
    canvas.column(760, top, drawn)
    canvas.column(1140, top, decode, save)
    canvas.as_app([*chosen(label), *shaped(size), (drawn, "seed")], [save])

"""Workflows that draw images one by one: the first steps."""

from __future__ import annotations

from ..canvas import BETWEEN_GROUPS, Canvas, Node
from .parts import SAMPLER_WITH_PREVIEW, chosen, loaders, named_label, one_image, sampler


def one_flag(canvas: Canvas) -> None:
    note = canvas.note(
        "Choose a flag with **Classes…** in **FiT Class Label**, or type its country. Choose a "
        "shape in **FiT Resolution**: click one, or drag the corner of the pad. Then press "
        "**Run**. Each run draws from another seed.\n\nThe checkpoint that comes with the pack "
        "draws 256 flags. For a name that it does not know, you are told the closest ones.",
        (1600, 100),
    )
    loader, vae = loaders(canvas)
    label = canvas.add("FiTClassLabel", model=loader[0], text="Finland")
    size = canvas.add("FiTResolution", model=loader[0], aspect_ratio="3:2")
    one_image(
        canvas, note, loader, vae, label, size, sampler(canvas, loader[0], label, size[0], seed=9)
    )


def three_ratios(canvas: Canvas) -> None:
    note = canvas.note(
        "One class at three aspect ratios.\n\nChoose classes with **Classes…** in **FiT Class "
        'Label**, or type them: a name such as "France", a number such as "76", or several, '
        '"Finland; France; Brazil", for one image of each. **FiT Resolution** sets the ratio and '
        "how many tokens, of 16 × 16 pixels each, an image may have: more make it larger. Its "
        "corner can be dragged.",
        (320, 320),
    )
    loader, vae = loaders(canvas)
    label = canvas.add("FiTClassLabel", model=loader[0], text="Finland")
    understood = canvas.add("PreviewAny", "Recognised classes", source=label["label"])
    understood.size = (320, 120)
    canvas.column(0, 0, note, loader, vae, label, understood)
    saves = []
    for number, (ratio, seed) in enumerate((("1:1", 9), ("3:2", 16), ("2:1", 14))):
        size = canvas.add(
            "FiTResolution", model=loader[0], aspect_ratio=ratio, batch_size=label["count"]
        )
        drawn = sampler(canvas, loader[0], label, size[0], seed=seed)
        decode = canvas.add("VAEDecode", samples=drawn[0], vae=vae[0])
        save = canvas.add(
            "SaveImage",
            f"Save {ratio}",
            images=decode[0],
            filename_prefix=f"fit_{ratio.replace(':', 'x')}",
        )
        row = [size, drawn, decode]
        drawn.size = (320, SAMPLER_WITH_PREVIEW)
        canvas.column(400 + 380 * number, 0, *row)
        canvas.group(ratio, row)
        save.size = (360, 340)
        saves.append(save)
    canvas.column(400 + 380 * 3, 0, *saves)
    canvas.group("Images", saves)
    canvas.as_app(chosen(label), saves)


def _first_image(canvas: Canvas, loader: Node, vae: Node, name: str) -> tuple[Node, ...]:
    """The nodes that draw and save an image of a class, to start from."""
    first = named_label(canvas, "First", loader[0], name)
    size = canvas.add("FiTResolution", model=loader[0], aspect_ratio="3:2")
    drawn = sampler(canvas, loader[0], first, size[0], called="Draw", seed=16)
    before = canvas.add("VAEDecode", samples=drawn[0], vae=vae[0])
    save_before = canvas.add("SaveImage", "Before", images=before[0], filename_prefix="fit_before")
    return first, size, drawn, before, save_before


def image_to_image(canvas: Canvas) -> None:
    note = canvas.note(
        "The first image is encoded and drawn again as another class. **denoise** sets how much "
        "changes: 1 ignores the image, 0.7 keeps its layout.\n\nThe first image is drawn here, so "
        "that the workflow runs as it is. To start from your own, connect **Load Image** to VAE "
        "Encode; its sides must be multiples of 16 pixels. **Classes…** shows what else can be "
        "drawn.",
        (320, 260),
    )
    loader, vae = loaders(canvas)
    first, size, drawn, before, save_before = _first_image(canvas, loader, vae, "France")
    encode = canvas.add("VAEEncode", pixels=before[0], vae=vae[0])
    second = named_label(canvas, "Second", loader[0], "Italy")
    changed = sampler(canvas, loader[0], second, encode[0], called="Change", seed=0, denoise=0.7)
    after = canvas.add("VAEDecode", samples=changed[0], vae=vae[0])
    save_after = canvas.add("SaveImage", "After", images=after[0], filename_prefix="fit_after")
    canvas.column(0, 0, note, loader, vae)
    canvas.column(400, 0, first)
    canvas.column(740, 0, size)
    canvas.column(1080, 0, drawn)
    bottom = canvas.column(1420, 0, before, save_before)
    canvas.group("An image to start from", [first, size, drawn, before, save_before])
    top = bottom + BETWEEN_GROUPS
    canvas.column(400, top, encode, second)
    canvas.column(1080, top, changed)
    canvas.column(1420, top, after, save_after)
    canvas.group("Drawn again as another class", [encode, second, changed, after, save_after])
    canvas.as_app(
        [*chosen(first), *chosen(second), (changed, "denoise"), (changed, "seed")],
        [save_before, save_after],
    )


def inpaint(canvas: Canvas) -> None:
    note = canvas.note(
        "Only the masked part is drawn again, as another class; the rest stays. Here the mask is "
        "the right part of the image.\n\nTo paint your own, connect **Load Image** to VAE Encode "
        "and to Set Latent Noise Mask, and choose **Open in MaskEditor** in the menu of Load "
        "Image. Sides must be multiples of 16 pixels. **Classes…** shows what else can be drawn.",
        (320, 260),
    )
    loader, vae = loaders(canvas)
    first, size, drawn, before, save_before = _first_image(canvas, loader, vae, "Sweden")
    whole = canvas.add(
        "SolidMask", "Keep all", value=0.0, width=size["width"], height=size["height"]
    )
    part = canvas.add("SolidMask", "Draw again", value=1.0, width=512, height=512)
    mask = canvas.add(
        "MaskComposite", "Mask", destination=whole[0], source=part[0], x=160, operation="add"
    )
    mask.labels["x"] = "left edge of the mask"
    encode = canvas.add("VAEEncode", pixels=before[0], vae=vae[0])
    masked = canvas.add("SetLatentNoiseMask", samples=encode[0], mask=mask[0])
    second = named_label(canvas, "Second", loader[0], "Finland")
    changed = sampler(canvas, loader[0], second, masked[0], called="Inpaint", seed=0)
    after = canvas.add("VAEDecode", samples=changed[0], vae=vae[0])
    save_after = canvas.add("SaveImage", "After", images=after[0], filename_prefix="fit_inpaint")
    left = canvas.column(0, 0, note, loader, vae)
    canvas.column(400, 0, first)
    canvas.column(740, 0, size)
    canvas.column(1080, 0, drawn)
    bottom = canvas.column(1420, 0, before, save_before)
    canvas.group("An image to start from", [first, size, drawn, before, save_before])
    top = bottom + BETWEEN_GROUPS
    canvas.column(0, left + BETWEEN_GROUPS, whole, part, mask)
    canvas.group("Where to draw again", [whole, part, mask])
    canvas.column(400, top, encode, masked, second)
    canvas.column(1080, top, changed)
    canvas.column(1420, top, after, save_after)
    canvas.group(
        "Drawn again inside the mask", [encode, masked, second, changed, after, save_after]
    )
    canvas.as_app(
        [*chosen(first), *chosen(second), (mask, "x"), (changed, "seed")],
        [save_before, save_after],
    )


def ksampler(canvas: Canvas) -> None:
    note = canvas.note(
        "FiT is a MODEL like any other, so ComfyUI's own **KSampler** draws with it too, and so "
        "do custom samplers, LoRA loaders and model merging.\n\nWith **euler** and **simple** it "
        "takes the steps of the paper. Its **cfg** is what FiT Sampler calls guidance.",
        (1600, 100),
    )
    loader, vae = loaders(canvas)
    label = canvas.add("FiTClassLabel", model=loader[0], text="Sweden")
    size = canvas.add("FiTResolution", model=loader[0], aspect_ratio="2:1")
    drawn = canvas.add(
        "KSampler",
        model=loader[0],
        positive=label[0],
        negative=label[1],
        latent_image=size[0],
        seed=14,
        steps=20,
        cfg=2.0,
        sampler_name="euler",
        scheduler="simple",
    )
    one_image(canvas, note, loader, vae, label, size, drawn)

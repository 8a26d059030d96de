"""Workflows that show several images side by side on one sheet."""

from __future__ import annotations

from typing import Any

from ..canvas import BETWEEN_GROUPS, Canvas, Node
from .parts import PICKER, SAMPLER_WITH_PREVIEW, SOLVER, chosen, loaders, sampler, shaped


def seven_ratios(canvas: Canvas) -> None:
    note = canvas.note(
        "One class at seven aspect ratios, drawn together in one pass and shown on one sheet.\n\n"
        "**FiT Resolution Sweep** lists the images. Type another class, or several: "
        '"Czech Republic; Poland" gives each a row. Sizes are ratios, or pixels such as '
        '"320x160". **FiT Sweep Sampler** draws all of them at once, each as it would be alone; '
        "**FiT Compare Sheet** labels them. Where a side is longer than trained, **FiT "
        "Extrapolation** stretches the image instead of repeating it.\n\nThe seed stays: change a "
        "list, and **Run** draws only what is new. Change the seed for other images.",
        (320, 420),
    )
    loader, vae = loaders(canvas)
    extrapolation = canvas.add("FiTExtrapolation", model=loader[0], method="auto")
    sweep = canvas.add(
        "FiTResolutionSweep",
        model=extrapolation[0],
        classes="Czech Republic",
        sizes="1:1\n3:2\n2:1\n3:1\n2:3\n1:2\n1:3",
    )
    compare(
        canvas,
        note,
        [loader, vae, extrapolation],
        sweep,
        vae,
        draw={"seed": 2},
        sheet={"title": "One class, seven aspect ratios", "picture_size": 192},
        name="fit_seven_aspect_ratios",
    )


def extrapolation_methods(canvas: Canvas) -> None:
    note = canvas.note(
        "Every extrapolation method at growing sizes: rows are methods, columns are sizes, all of "
        "one class and one seed. The first column has the trained size. To the right each side "
        "grows to 1.25, 1.5 and 2 times.\n\nChange the lists in **FiT Resolution Sweep**: methods "
        'such as "yarn coupled" or "ntk + pro2", sizes such as "3:1 @ 1024". '
        "**tokens_per_pass** is set so that one row is drawn at a time; the preview fills row by "
        "row. It takes one to two minutes on a CPU, seconds on a GPU. What was drawn before is "
        "not drawn again, as long as the seed stays.",
        (320, 420),
    )
    loader, vae = loaders(canvas)
    sweep = canvas.add(
        "FiTResolutionSweep",
        model=loader[0],
        classes="Czech Republic",
        sizes="1:1 @ 256\n1:1 @ 400\n1:1 @ 576\n1:1 @ 1024",
        methods="none\nlinear\nntk\nntk-by-parts\nyarn\nfrequency-aware\ntime-aware",
    )
    compare(
        canvas,
        note,
        [loader, vae],
        sweep,
        vae,
        draw={"seed": 16, "steps": 12, "tokens_per_pass": 2304},
        sheet={
            "scale": "true relative scale",
            "title": "Extrapolation methods × sizes beyond the trained one",
            "columns": "trained size; 1.25 × a side; 1.5 × a side; 2 × a side",
        },
        name="fit_extrapolation_methods",
    )


def compare(
    canvas: Canvas,
    note: Node,
    models: list[Node],
    sweep: Node,
    vae: Node,
    draw: dict[str, Any],
    sheet: dict[str, Any],
    name: str,
) -> None:
    """What draws a sweep and shows it on a sheet, in three groups beside the note."""
    report = canvas.add(
        "PreviewAny", "Sizes, and what each method does to them", source=sweep["report"]
    )
    model = models[-1] if models[-1].kind == "FiTExtrapolation" else models[0]
    drawn = canvas.add(
        "FiTSweepSampler", **{**SOLVER, **draw}, model=model[0], sweep=sweep["sweep"]
    )
    decode = canvas.add(
        "FiTSweepDecoder", latents=drawn["latents"], vae=vae[0], sweep=drawn["sweep"]
    )
    sheets = canvas.add("FiTCompareSheet", **sheet, images=decode[0], sweep=drawn["sweep"])
    save = canvas.add("SaveImage", images=sheets[0], filename_prefix=name)
    save.collapsed = True
    canvas.column(0, 0, note, *models)
    canvas.column(380, 0, sweep, report)
    canvas.column(800, 0, drawn, decode)
    canvas.column(1200, 0, sheets, save)
    canvas.group("What to draw", [sweep, report])
    canvas.group("Drawn together", [drawn, decode])
    canvas.group("One sheet", [sheets, save])
    canvas.as_app(
        [(sweep, "classes"), (sweep, PICKER), (sweep, "sizes"), (drawn, "seed")], [sheets]
    )


def guidance(canvas: Canvas) -> None:
    note = canvas.note(
        "Ways to guide an image towards its class, from one seed. **Without**: the class alone. "
        "**CFG**: as published, on the first three latent channels. **Interval**: CFG in the "
        "middle of the way only; the other steps take half the time. **APG** and **CFG-Zero★** "
        "are ComfyUI's own nodes, and work on FiT as on other models; CFG-Zero★ makes colours "
        "brighter.\n\nThe bundled checkpoint needs little guidance: at 3, plain CFG darkens. "
        "Change **guidance** of the samplers to compare, or the flag with **Classes…**. The seed "
        "stays, so that only what you change is drawn again.",
        (320, 220),
    )
    loader, vae = loaders(canvas)
    label = canvas.add("FiTClassLabel", model=loader[0], text="Botswana")
    size = canvas.add("FiTResolution", model=loader[0], aspect_ratio="3:2")
    seed = canvas.add("PrimitiveInt", "Seed of all", value=16)
    seed.labels["value"] = "seed"
    interval = canvas.add("FiTGuidance", model=loader[0], start=0.2, end=0.8)
    apg = canvas.add("APG", model=loader[0], eta=0.0, norm_threshold=5.0, momentum=-0.5)
    zero = canvas.add("CFGZeroStar", model=loader[0])
    ways = {"Without": loader, "CFG": loader, "Interval": interval, "APG": apg, "CFG-Zero★": zero}
    drawn = [
        sampler(canvas, model[0], label, size[0], called=way, seed=seed[0], guidance=3.0)
        for way, model in ways.items()
    ]
    drawn[0].inputs["guidance"] = 1.0
    row = one_row(canvas, drawn, vae, "; ".join(ways), "Ways to guide", "fit_guidance")
    batch, decode, sheet, save = row
    bottom = canvas.column(0, 0, note, loader, vae)
    canvas.column(340, 0, label, seed)
    canvas.column(680, 0, size)
    canvas.column(1040, 0, interval, apg, zero)
    canvas.group("Changes to the model", [interval, apg, zero])
    sheet.size = (660, bottom)
    canvas.column(1400, 0, sheet)
    top = bottom + BETWEEN_GROUPS
    for number, node in enumerate(drawn):
        node.size = (320, SAMPLER_WITH_PREVIEW)
        canvas.column(340 * number, top, node)
    canvas.group("The same noise, guided in five ways", drawn)
    canvas.column(1740, top, batch, decode, save)
    canvas.as_app([*chosen(label), *shaped(size), (seed, "value")], [sheet])


def morph(canvas: Canvas) -> None:
    note = canvas.note(
        "One class turns into another. In **FiT Resolution Sweep**, a blend such as "
        '"0.75*France + 0.25*Italy" is three parts of the first class and one part of the second. '
        "All five start from the same noise, so that only the class changes, and **columns** puts "
        "them side by side.\n\nType other classes, or choose them with **Classes…**. Flags with "
        'the same layout blend best. FiT Class Label reads blends too; "France + Italy" has equal '
        "parts.",
        (320, 380),
    )
    loader, vae = loaders(canvas)
    sweep = canvas.add(
        "FiTResolutionSweep",
        model=loader[0],
        classes="; ".join(
            (
                "France",
                *(f"{part}*France + {1 - part}*Italy" for part in (0.75, 0.5, 0.25)),
                "Italy",
            )
        ),
        sizes="3:2",
        columns="classes",
    )
    compare(
        canvas,
        note,
        [loader, vae],
        sweep,
        vae,
        draw={"seed": 16},
        sheet={"title": "A morph", "columns": "France; 75 %; 50 %; 25 %; Italy"},
        name="fit_morph",
    )


def one_row(
    canvas: Canvas, drawn: list[Node], vae: Node, columns: str, title: str, name: str
) -> list[Node]:
    """Latents of several samplers side by side on one sheet: batch, decode, sheet, save."""
    latents = {f"latents.latent{number}": node[0] for number, node in enumerate(drawn)}
    batch = canvas.add("BatchLatentsNode", **latents)
    decode = canvas.add("VAEDecode", samples=batch[0], vae=vae[0])
    sheet = canvas.add("FiTCompareSheet", images=decode[0], title=title, columns=columns)
    save = canvas.add("SaveImage", images=sheet[0], filename_prefix=name)
    save.collapsed, save.size = True, decode.size
    return [batch, decode, sheet, save]

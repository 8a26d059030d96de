"""Workflows that show several images side by side on one sheet."""

from __future__ import annotations

from typing import Any

from ..canvas import BETWEEN_GROUPS, Canvas, Node
from .parts import BELOW_NOTE, PICKER, SOLVER, loaders, named_label, sampler


def seven_ratios(canvas: Canvas) -> None:
    note = canvas.note(
        "One class at seven aspect ratios, drawn together in one pass and shown on one sheet.\n\n"
        "**FiT Resolution Sweep** lists the images. Type another class, or several: "
        '"Czech Republic; Poland" gives each a row. Sizes are ratios, or pixels such as '
        '"320x160". **FiT Sweep Sampler** draws all of them at once, each as it would be alone; '
        "**FiT Compare Sheet** labels them. Where a side is longer than trained, **FiT "
        "Extrapolation** stretches the image instead of repeating it.",
        (1080, 190),
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
        "row. It takes one to two minutes on a CPU, seconds on a GPU.",
        (1080, 190),
    )
    loader, vae = loaders(canvas)
    sweep = canvas.add(
        "FiTResolutionSweep",
        model=loader[0],
        classes="Czech Republic",
        sizes="3:2 @ 256\n3:2 @ 400\n3:2 @ 576\n3:2 @ 1024",
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
    """What draws a sweep and shows it on a sheet, in three groups under the note."""
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
    canvas.column(0, 0, note)
    top = note.size[1] + BELOW_NOTE
    canvas.column(0, top, *models)
    canvas.column(360, top, sweep, report)
    canvas.column(780, top, drawn, decode)
    canvas.column(1180, top, sheets, save)
    canvas.group("What to draw", [*models, sweep, report])
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
        "brighter.\n\nThe bundled checkpoint needs little guidance: at 3, plain CFG smudges. "
        "Change **guidance** of the samplers to compare.",
        (1400, 150),
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
    canvas.column(0, 0, note)
    top = note.size[1] + BELOW_NOTE
    bottom = max(canvas.column(0, top, loader, vae, seed), canvas.column(360, top, label, size))
    canvas.group("What to draw", [loader, vae, seed, label, size])
    for x, patch in ((740, interval), (1100, apg), (1460, zero)):
        canvas.column(x, top, patch)
    canvas.group("Changes to the model", [interval, apg, zero])
    side_by_side(canvas, drawn, bottom + BETWEEN_GROUPS, "The same noise, guided in five ways")
    at_the_right(canvas, row, top)
    canvas.as_app([(label, "text"), (size, "aspect_ratio"), (seed, "value")], [row[2]])


def morph(canvas: Canvas) -> None:
    note = canvas.note(
        "One class turns into another. **Conditioning (Average)** blends two classes: at 0.75 an "
        "image is three parts of the first and one part of the second. All five start from the "
        "same noise, so that only the class changes.\n\nType other classes into **First** and "
        "**Last**. Flags with the same layout blend best.",
        (1400, 130),
    )
    loader, vae = loaders(canvas)
    first = named_label(canvas, "First", loader[0], "France")
    last = named_label(canvas, "Last", loader[0], "Italy")
    size = canvas.add("FiTResolution", model=loader[0], aspect_ratio="3:2")
    seed = canvas.add("PrimitiveInt", "Seed of all", value=16)
    seed.labels["value"] = "seed"
    blends = {
        part: canvas.add(
            "ConditioningAverage",
            f"{part:.0%} first",
            conditioning_to=first[0],
            conditioning_from=last[0],
            conditioning_to_strength=part,
        )
        for part in (0.75, 0.5, 0.25)
    }
    drawn = [
        sampler(canvas, loader[0], first, size[0], called=f"{part:.0%}", seed=seed[0])
        for part in (1.0, *blends, 0.0)
    ]
    for node, blend in zip(drawn[1:], [*blends.values(), last], strict=True):
        node.inputs["positive"] = blend[0]
    row = one_row(canvas, drawn, vae, "first; 75 %; 50 %; 25 %; last", "A morph", "fit_morph")
    canvas.column(0, 0, note)
    top = note.size[1] + BELOW_NOTE
    bottom = max(
        canvas.column(0, top, loader, vae, seed),
        canvas.column(360, top, first, last),
        canvas.column(720, top, size),
    )
    canvas.group("What to draw", [loader, vae, seed, first, last, size])
    canvas.column(1100, top, *blends.values())
    canvas.group("Blends", [*blends.values()])
    side_by_side(canvas, drawn, bottom + BETWEEN_GROUPS, "The same noise, five classes")
    at_the_right(canvas, row, top)
    canvas.as_app([(first, "text"), (last, "text"), (seed, "value")], [row[2]])


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


def side_by_side(canvas: Canvas, drawn: list[Node], top: int, title: str) -> None:
    for number, node in enumerate(drawn):
        canvas.column(360 * number, top, node)
    canvas.group(title, drawn)


def at_the_right(canvas: Canvas, row: list[Node], top: int) -> None:
    """Put the nodes of ``one_row`` right of five samplers, their upper ends at ``top``."""
    batch, decode, sheet, save = row
    canvas.column(1860, top, batch, decode, save)
    canvas.column(2140, top, sheet)
    canvas.group("One sheet", row)

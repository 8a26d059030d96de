"""Measured numbers beside those of the FiTv2 paper, in one table."""

from __future__ import annotations

from collections.abc import Sequence

from .metrics import INCEPTION_METRICS, LOWER_IS_BETTER
from .paper import IMAGES, PAPER, SOLVER, TABLES, Comparison, PaperCell
from .report import Evaluation, Row

_UNKNOWN = "–"


def beside_paper(compared: Comparison, evaluations: Sequence[Evaluation]) -> str:
    """The table in Markdown, and all that keeps its numbers from being comparable.

    ``evaluations`` are of one checkpoint, one per guidance scale.
    """
    row, first = compared.row, evaluations[0]
    reported = {name for cell in row.cells for name in cell.metrics}
    heads = [
        _head(name, paper, reported=paper in reported)
        for name, paper in zip(first.metric_names, INCEPTION_METRICS, strict=True)
    ]
    lines = [
        f"`{first.checkpoint}` beside {row.name} in Table {row.table} of {PAPER}: "
        f"{TABLES[row.table]}. In brackets: the paper, after {compared.paper_steps:,} steps.",
        "",
        *([] if first.published else [_not_comparable(first), ""]),
        _line("size", "extrapolation", "guidance", "images", *heads),
        _line(*["---"] * (4 + len(heads))),
    ]
    for evaluation in evaluations:
        guidance = evaluation.settings["guidance_scale"]
        for measured in evaluation.rows:
            cell = row.cell(compared.paper_steps, guidance, measured.size, measured.extrapolation)
            values = _values(evaluation, measured, cell, reported)
            about = (measured.size, measured.extrapolation, f"{guidance:g}", measured.images)
            lines.append(_line(*about, *values))
    lines += [
        "",
        "Sizes are width x height; the paper writes height x width. Its VisionYaRN and VisionNTK "
        "are yarn and ntk here, its PI is linear, and its attention scale pro2.",
    ]
    if differences := _differences(compared, evaluations):
        lines += ["", "Not as in the paper:", *(f"- {what}" for what in differences)]
    lines += [
        "",
        f"The paper measured with ADM's program against ADM's images; here the reference is "
        f"`{first.reference}`, cropped to the shape of each size. With --npz the images are "
        "written for that program too.",
    ]
    return "\n".join(lines)


def _head(name: str, paper: str, *, reported: bool) -> str:
    arrow = "↓" if name in LOWER_IS_BETTER else "↑"
    if not reported:
        return f"{name} {arrow}"
    return f"{name} {arrow} (paper)" if name == paper else f"{name} {arrow} (paper: {paper})"


def _not_comparable(evaluation: Evaluation) -> str:
    return (
        f"**These numbers cannot be compared with the paper's**: the features are those of a small "
        f"random network ({evaluation.features}). Name the Inception weights with --inception FILE."
    )


def _values(
    evaluation: Evaluation, measured: Row, cell: PaperCell | None, reported: set[str]
) -> list[str]:
    values = []
    for name, paper in zip(evaluation.metric_names, INCEPTION_METRICS, strict=True):
        value = f"{measured.metrics[name]:.4g}"
        if paper in reported:
            number = cell.metrics.get(paper) if cell else None
            value += f" ({_UNKNOWN if number is None else f'{number:g}'})"
        values.append(value)
    return values


def _differences(compared: Comparison, evaluations: Sequence[Evaluation]) -> list[str]:
    """What differs from how the paper trained and measured, in words."""
    row, settings = compared.row, evaluations[0].settings
    found = []
    if not compared.same_architecture:
        found.append(f"the checkpoint does not have the architecture of {row.name}")
    if compared.trained_steps is None:
        found.append("the checkpoint does not say for how many steps it was trained")
    elif compared.trained_steps != compared.paper_steps:
        found.append(f"the checkpoint was trained for {compared.trained_steps:,} steps")
    if settings["solver"] != SOLVER:
        steps = "1 step" if settings["steps"] == 1 else f"{settings['steps']} steps"
        found.append(f"{steps} of {settings['solver']} in place of {SOLVER}")
    if strange := [g for g in compared.guidance_scales if g not in row.guidance_scales]:
        own = " and ".join(f"{scale:g}" for scale in row.guidance_scales)
        found.append(f"guidance scale {strange[0]:g} in place of {own}")
    counts = {measured.images for evaluation in evaluations for measured in evaluation.rows}
    if counts != {IMAGES}:
        images = " or ".join(f"{count:,}" for count in sorted(counts))
        found.append(f"{images} images per line in place of {IMAGES:,}")
    return found


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"

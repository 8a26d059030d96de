"""The page of the extrapolation study: what wins where, two plots and a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from comfyui_fitv2.extrapolation import AUTO, Extrapolation
from sheets.contact_sheet import SheetCell, by_name, contact_sheet

from ...whole_files import write_text, write_whole
from .bench import Cell, Generated, Score
from .flags import NATIVE

PAGE, TOP_1, RAGGEDNESS, SHEET = "README.md", "top-1.png", "raggedness.png", "methods.png"
_MEASURES = """
**Top-1** is the part of the flags that are nearest to their own of all 256, **distance** the RMS of
RGB in 0..1 to the own flag at a height of 48 pixels, **raggedness** the mean absolute error of RGB
in 0..1 to the nearest flag as the VAE alone would show it, at full size. The best has most flags
right, and of these the smallest distance. Extrapolations that are the same in effect at a size were
drawn once."""


@dataclass(frozen=True, slots=True)
class Study:
    """Scores by place: a cell without an extrapolation."""

    first: Mapping[Cell, Mapping[str, Score]]
    """Of a few flags by extrapolation; those that are the same in effect share a score."""
    second: Mapping[Cell, Sequence[Score]]
    """Of more flags, with the best extrapolations of the first pass alone, the best first."""


def ranked(scores: Iterable[Score]) -> list[Score]:
    """Each score once, the best first: with most flags right, then the nearest to the flags."""
    different = {score.cell: score for score in scores}.values()
    return sorted(different, key=lambda score: (-score.top_1, score.distance))


def write_page(
    folder: Path,
    study: Study,
    images: Callable[[Cell, int], list[Generated]],
    made_with: Sequence[str],
) -> None:
    """Write the page and its pictures into ``folder``.

    ``images`` gives those of a cell for a number of flags; ``made_with`` are lines on the command
    and the model.
    """
    one = next(iter(next(iter(study.first.values())).values()))
    flag = telling(study, [image.name for image in images(one.cell, one.flags)])
    write_text(folder / PAGE, markdown(study, flag, made_with) + "\n")
    for name, title, value in (
        (TOP_1, "Flags that are right, %", lambda score: 100 * score.top_1),
        (RAGGEDNESS, "Raggedness × 1000; less is better", lambda score: 1000 * score.raggedness),
    ):
        with write_whole(folder / name) as temporary:
            figure = heat_maps(study.first, title, value, less_is_better=name == RAGGEDNESS)
            figure.savefig(temporary, format="png", dpi=110)
    cells = [
        (_title(place), label, SheetCell(_read(image.file)))
        for place, scores in study.first.items()
        for label, score in scores.items()
        if Extrapolation.parse(label) == Extrapolation(Extrapolation.parse(label).method)
        for image in images(score.cell, score.flags)
        if image.name == flag
    ]
    with write_whole(folder / SHEET) as temporary:
        contact_sheet(*by_name(cells), title=flag, cell_side=128).save(temporary, "PNG")


def telling(study: Study, names: Iterable[str]) -> str:
    """Of the flags ``names``, the one that is right and wrong with most extrapolations each."""
    scores = [score for of_place in study.first.values() for score in of_place.values()]
    wrong = Counter(name for score in scores for name in score.wrong)
    return max(names, key=lambda name: min(wrong[name], len(scores) - wrong[name]))


def markdown(study: Study, flag: str, made_with: Sequence[str]) -> str:
    """The text of the page."""
    [flags] = {score.flags for scores in study.first.values() for score in scores.values()}
    count = len(next(iter(study.first.values())))
    lines = [
        "# Beyond the trained size: which extrapolation wins where",
        "",
        *made_with,
        "",
        f"{count} extrapolations of {flags} flags: methods, coupled and decoupled, with attention",
        f"scales. One flag is {100 / flags:.3g} points of top-1.",
        _MEASURES,
        "",
        "| size | best | top-1 | distance | raggedness | within one flag of it | none | auto |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, scores in study.first.items():
        best = ranked(scores.values())[0]
        close = {s.cell for s in scores.values() if s.top_1 >= best.top_1 - 1.001 / flags}
        drawn = {score.cell for score in scores.values()}
        others = (
            f"{scores[label].top_1:.0%}" if label in scores else "" for label in ("none", AUTO)
        )
        lines.append(
            f"| {_title(place)} | {best.cell.method} | {best.top_1:.0%} | {best.distance:.3f} "
            f"| {best.raggedness:.4f} | {len(close)} of {len(drawn)} | {' | '.join(others)} |"
        )
    if study.second:
        lines += [
            "",
            "The best of these, with more flags:",
            "",
            "| size | extrapolation | flags | top-1 | distance | raggedness |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {_title(place)} | {score.cell.method} | {score.flags} | {score.top_1:.1%} "
            f"| {score.distance:.3f} | {score.raggedness:.4f} |"
            for place, scores in study.second.items()
            for score in scores
        ]
    lines += [
        "",
        f"![Top-1 by extrapolation and size]({TOP_1})",
        f"![Raggedness by extrapolation and size]({RAGGEDNESS})",
        f"![{flag} by method and size]({SHEET})",
        "",
        "<details><summary>All figures: top-1, distance, raggedness</summary>",
        "",
        f"| extrapolation | {' | '.join(map(_title, study.first))} |",
        f"|{'---|' * (len(study.first) + 1)}",
    ]
    for label in next(iter(study.first.values())):
        figures = (
            f"{score.top_1:.0%}, {score.distance:.3f}, {score.raggedness:.4f}"
            for score in (scores[label] for scores in study.first.values())
        )
        lines.append(f"| {label} | {' | '.join(figures)} |")
    return "\n".join([*lines, "", "</details>"])


def heat_maps(
    scores: Mapping[Cell, Mapping[str, Score]],
    title: str,
    value: Callable[[Score], float],
    *,
    less_is_better: bool,
) -> Figure:
    """A panel per attention scale: methods in rows, sizes in columns, better ones brighter."""
    labels = [label for label in next(iter(scores.values())) if label != AUTO]
    by_scale: dict[str, list[str]] = {}
    for label in labels:
        by_scale.setdefault(Extrapolation.parse(label).attention_scale, []).append(label)
    rows = [label.partition(" + ")[0] for label in next(iter(by_scale.values()))]
    tables = {
        scale: np.array(
            [[value(of_place[label]) for of_place in scores.values()] for label in some]
        )
        for scale, some in by_scale.items()
    }
    every = np.concatenate(list(tables.values()))
    low, high = every.min(), max(every.max(), every.min() + 1e-9)
    colours = colormaps["cividis_r" if less_is_better else "cividis"]
    width = 1.6 + len(tables) * (0.45 * len(scores) + 0.15)
    figure = Figure(figsize=(width, 0.3 * len(rows) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
    for panel, (scale, table) in zip(panels, tables.items(), strict=True):
        panel.imshow(table, cmap=colours, vmin=low, vmax=high, aspect="auto")
        for (row, column), number in np.ndenumerate(table):
            red, green, blue, _ = colours((number - low) / (high - low))
            ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
            panel.text(column, row, f"{number:.0f}", ha="center", va="center", color=ink, size=8)
        panel.set_title("no attention scale" if scale == "none" else f"+ {scale}", fontsize=9)
        panel.set_xticks(range(len(scores)), map(_title, scores), rotation=60, fontsize=8)
        panel.set_yticks(range(len(rows)), rows, fontsize=8)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure


def _title(place: Cell) -> str:
    """Such as "1.5×" or "3:1"."""
    side = f"{place.scale:g}×"
    return side if place.shape == NATIVE else place.shape


def _read(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")

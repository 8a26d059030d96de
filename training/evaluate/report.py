"""An evaluation as JSON for programs, a Markdown table for people, and a plot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..whole_files import temporary_file, write_json
from .metrics import LOWER_IS_BETTER, METRICS

matplotlib.use("Agg")

JSON_FILE, TABLE_FILE, PLOT_FILE = "evaluation.json", "evaluation.md", "evaluation.png"
_WIDTH_PER_BAR, _PANEL_HEIGHT = 0.28, 2.4


@dataclass(frozen=True, slots=True)
class Row:
    """One size drawn with one extrapolation method."""

    size: str
    tokens: int
    extrapolation: str
    images: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Reference:
    """What a size was compared with."""

    images: int
    enlarged: int
    """Of these, smaller than the size."""
    unreadable: dict[str, str]
    """Files left out, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    checkpoint: str
    features: str
    """Name of the feature extractor."""
    published: bool
    """Whether its numbers are comparable with published ones."""
    settings: dict[str, Any]
    reference: str
    references: dict[str, Reference]
    """By size."""
    rows: list[Row]


def write_report(evaluation: Evaluation, folder: Path) -> None:
    """All three files, each whole or not at all."""
    write_json(folder / JSON_FILE, asdict(evaluation))
    with temporary_file(folder / TABLE_FILE) as file:
        file.write(f"{markdown(evaluation)}\n".encode())
    with temporary_file(folder / PLOT_FILE) as file:
        plot(evaluation).savefig(file, format="png", dpi=120)


def markdown(evaluation: Evaluation) -> str:
    heads = [
        "size",
        "tokens",
        "extrapolation",
        "images",
        *(f"{metric} {'↓' if metric in LOWER_IS_BETTER else '↑'}" for metric in METRICS),
    ]
    lines = [
        f"`{evaluation.checkpoint}`, {_settings(evaluation)}. {_comparability(evaluation)}",
        "",
        _line(heads),
        _line(["---"] * len(heads)),
    ]
    for row in evaluation.rows:
        lines.append(
            _line(
                [
                    row.size,
                    str(row.tokens),
                    row.extrapolation,
                    str(row.images),
                    *(f"{row.metrics[metric]:.4g}" for metric in METRICS),
                ]
            )
        )
    lines += ["", f"Reference: `{evaluation.reference}`, cut to each size."]
    for size, reference in evaluation.references.items():
        left_out = (
            f", {len(reference.unreadable)} that cannot be read left out"
            if reference.unreadable
            else ""
        )
        lines.append(
            f"- {size}: {reference.images} pictures, of them {reference.enlarged} enlarged{left_out}"
        )
    return "\n".join(lines)


def plot(evaluation: Evaluation) -> Figure:
    """A panel a metric: bars of the methods, in groups by size."""
    sizes = list(dict.fromkeys(row.size for row in evaluation.rows))
    methods = list(dict.fromkeys(row.extrapolation for row in evaluation.rows))
    values = {(row.size, row.extrapolation): row.metrics for row in evaluation.rows}
    colours = matplotlib.colormaps["viridis"]
    figure = Figure(
        figsize=(
            max(6.5, 1.6 + _WIDTH_PER_BAR * len(sizes) * (len(methods) + 1)),
            _PANEL_HEIGHT * len(METRICS),
        ),
        layout="constrained",
    )
    panels = figure.subplots(len(METRICS), 1, sharex=True)
    for panel, metric in zip(panels, METRICS, strict=True):
        for i, method in enumerate(methods):
            width = 0.8 / len(methods)
            places = [group + (i - (len(methods) - 1) / 2) * width for group in range(len(sizes))]
            heights = [values[size, method][metric] for size in sizes]
            bars = panel.bar(
                places,
                heights,
                width * 0.92,
                label=method,
                color=colours(0.1 + 0.75 * i / max(len(methods) - 1, 1)),
            )
            panel.bar_label(bars, fmt="%.3g", fontsize=7, padding=1)
        panel.set_ylabel(
            f"{metric} ({'lower' if metric in LOWER_IS_BETTER else 'higher'} is better)", fontsize=8
        )
        panel.margins(y=0.15)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xticks(range(len(sizes)), [size.replace("x", " × ") for size in sizes])
    panels[0].legend(
        title="extrapolation",
        fontsize=8,
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    figure.suptitle(f"{evaluation.checkpoint}\n{_comparability(evaluation)}", fontsize=9)
    return figure


def _settings(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    return f"{settings['steps']} steps of {settings['solver']}, guidance {settings['guidance']:g}, seed {settings['seed']}"


def _comparability(evaluation: Evaluation) -> str:
    if evaluation.published:
        return f"Features: Inception ({evaluation.features})."
    return f"Features: small bundled network ({evaluation.features}), NOT comparable with published numbers."


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

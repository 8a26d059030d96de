"""The report of an evaluation: JSON for programs, a Markdown table for people, and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..whole_files import (
    OutputFolderError,
    differences,
    read_json,
    write_json,
    write_text,
    write_whole,
)
from .metrics import INCEPTION_METRICS, LOWER_IS_BETTER, RANDOM_FEATURE_METRICS

_FLOOR = "(real images)"
_WIDTH_PER_BAR, _PANEL_HEIGHT = 0.28, 2.4
_FLOOR_LINE: dict[str, Any] = {"colors": "0.2", "linestyles": "--", "linewidth": 1, "zorder": 3}


@dataclass(frozen=True, slots=True)
class Row:
    """The metrics of one size generated with one extrapolation method."""

    size: str
    tokens: int
    extrapolation: str
    images: int
    metrics: dict[str, float]
    """Values by the names in ``Evaluation.metric_names``."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What real images of one size reach: part of the reference, measured against the rest."""

    images: int
    metrics: dict[str, float]
    """Distance, precision and recall, by their names."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference images of one size."""

    images: int
    enlarged: int
    """Number of images that were smaller than the size."""
    unreadable: dict[str, str]
    """Files that were left out, each with the reason."""
    features: int = 0
    """Number of features per image."""
    digest: str = ""
    """Tells these images from others."""
    floor: Floor | None = None
    """None with too few images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that a report says."""

    checkpoint: str
    features: str
    """Name of the feature extractor."""
    published: bool
    """Whether the numbers are comparable with published ones."""
    settings: dict[str, Any]
    """Options that decide an image."""
    reference: str
    """Name of the folder of reference images."""
    left_out: dict[str, str] = field(default_factory=dict)
    """The reason for each file or folder there that is no reference image."""
    references: dict[str, Reference]
    """Reference images by size."""
    rows: list[Row]

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of the metrics, which only Inception's features give their published names."""
        return INCEPTION_METRICS if self.published else RANDOM_FEATURE_METRICS


def check_report(
    folder: Path, name: str, settings: Mapping[str, Any], digests: Mapping[str, str] | None = None
) -> None:
    """Check that the report ``name`` in ``folder``, if there is one, compares with the same images.

    ``settings`` are those values of ``Evaluation`` that are known; ``digests`` those of its
    references by size, once they are measured. Raises ``OutputFolderError``.
    """
    file = folder / f"{name}.json"
    if not file.is_file():
        return
    advice = (
        "Name this comparison with --report, such as --report second; the images are not generated "
        "again."
    )
    before = read_json(file)
    known = {key: before[key] for key in settings if key in before}
    if changed := differences(known, {key: settings[key] for key in known}):
        raise OutputFolderError(f"{file} is another comparison ({'; '.join(changed)}). {advice}")
    for size, digest in (digests or {}).items():
        if before["references"].get(size, {}).get("digest", digest) != digest:
            raise OutputFolderError(
                f"{file} compares with other images at {size}: those in the reference folder have "
                f"changed. {advice}"
            )


def write_report(evaluation: Evaluation, folder: Path, name: str) -> None:
    """Write ``name``.json, .md and .png, each atomically.

    Raises ``OutputFolderError`` where a report of that name compares with other images.
    """
    digests = {size: reference.digest for size, reference in evaluation.references.items()}
    check_report(folder, name, {}, digests)
    write_json(folder / f"{name}.json", asdict(evaluation))
    write_text(folder / f"{name}.md", f"{markdown(evaluation)}\n")
    with write_whole(folder / f"{name}.png") as temporary:
        plot(evaluation).savefig(temporary, format="png", dpi=120)


def markdown(evaluation: Evaluation) -> str:
    """The table, with what was measured and against what."""
    names = evaluation.metric_names
    heads = [f"{name} {'↓' if name in LOWER_IS_BETTER else '↑'}" for name in names]
    lines = [
        f"`{evaluation.checkpoint}`, {_settings(evaluation)}. {_comparability(evaluation)}",
        "",
        _line("size", "tokens", "extrapolation", "images", *heads),
        _line(*["---"] * (4 + len(heads))),
    ]
    for size, reference in evaluation.references.items():
        rows = [row for row in evaluation.rows if row.size == size]
        if reference.floor:
            values = [_value(reference.floor.metrics.get(name)) for name in names]
            lines.append(_line(size, rows[0].tokens, _FLOOR, reference.floor.images, *values))
        for row in rows:
            values = [_value(row.metrics[name]) for name in names]
            lines.append(_line(size, row.tokens, row.extrapolation, row.images, *values))
    lines += _notes(evaluation)
    lines += ["", f"Reference: `{evaluation.reference}`, cropped to the shape of each size."]
    for size, reference in evaluation.references.items():
        unreadable = len(reference.unreadable)
        left_out = f"; unreadable files left out: {unreadable}" if unreadable else ""
        lines.append(
            f"- {size}: {reference.images} images, {reference.enlarged} of them enlarged{left_out}"
        )
    return "\n".join(lines)


def _notes(evaluation: Evaluation) -> list[str]:
    """How far the numbers can be trusted."""
    notes = []
    if any(reference.floor for reference in evaluation.references.values()):
        notes.append(
            f"{_FLOOR}: part of the reference measured against the rest of it. Generated images "
            "cannot be expected to do better."
        )
    images = min(
        [row.images for row in evaluation.rows]
        + [reference.images for reference in evaluation.references.values()]
    )
    features = max(reference.features for reference in evaluation.references.values())
    if images < features:
        notes.append(
            f"Too few images for exact distances: {images}, and {features} features. Distances are "
            "too high and depend on the number of images: compare rows with equal numbers only, "
            "and use --count for more."
        )
    return [line for note in notes for line in ("", note)]


def plot(evaluation: Evaluation) -> Figure:
    """One panel per metric, with a bar per extrapolation method, grouped by size."""
    sizes = list(dict.fromkeys(row.size for row in evaluation.rows))
    methods = list(dict.fromkeys(row.extrapolation for row in evaluation.rows))
    names = evaluation.metric_names
    width = 1.6 + _WIDTH_PER_BAR * len(sizes) * (len(methods) + 1)
    figure = Figure(figsize=(max(6.5, width), _PANEL_HEIGHT * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 1, sharex=True)
    for panel, name in zip(panels, names, strict=True):
        values = {(row.size, row.extrapolation): row.metrics[name] for row in evaluation.rows}
        _bars(panel, {method: [values[size, method] for size in sizes] for method in methods})
        floors = [evaluation.references[size].floor for size in sizes]
        for group, floor in enumerate(floors):
            if floor and name in floor.metrics:
                panel.hlines(floor.metrics[name], group - 0.45, group + 0.45, **_FLOOR_LINE)
        direction = "lower" if name in LOWER_IS_BETTER else "higher"
        panel.set_ylabel(f"{name}\n({direction} is better)", fontsize=8)
    panels[-1].set_xticks(range(len(sizes)), [size.replace("x", " × ") for size in sizes])
    if panels[0].collections:
        panels[0].collections[0].set_label("real images")
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


def _bars(panel: Axes, heights: dict[str, list[float]]) -> None:
    """A bar per method and size; ``heights`` has a list over the sizes per method."""
    width = 0.8 / len(heights)
    for i, (method, of_sizes) in enumerate(heights.items()):
        shift = (i - (len(heights) - 1) / 2) * width
        bars = panel.bar(
            [group + shift for group in range(len(of_sizes))],
            of_sizes,
            width * 0.92,
            label=method,
            color=colormaps["viridis"](0.1 + 0.75 * i / max(len(heights) - 1, 1)),
        )
        panel.bar_label(bars, fmt="%.3g", fontsize=7, padding=1)
    panel.margins(y=0.15)
    panel.spines[["top", "right"]].set_visible(False)


def _settings(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    return (
        f"{settings['steps']} steps of {settings['solver']}, "
        f"guidance scale {settings['guidance_scale']:g}, seed {settings['seed']}"
    )


def _comparability(evaluation: Evaluation) -> str:
    if evaluation.published:
        return f"Features: Inception ({evaluation.features})."
    return (
        f"Features: small random network ({evaluation.features}), "
        "NOT comparable with published numbers."
    )


def _value(number: float | None) -> str:
    return "–" if number is None else f"{number:.4g}"


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"

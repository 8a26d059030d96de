"""Line charts as SVG text, for a page without scripts: colours and fonts are the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[int, float]]

_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 26
_HOVERS = 120
"""Columns of a chart that show their values under the pointer."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart. ``kind`` is its CSS class."""

    name: str
    kind: str
    points: Points
    dots: bool = False
    """Whether each point is marked; lines of few points are clearer so."""
    backdrop: Points = ()
    """The same before smoothing, drawn faintly behind; it does not decide the range."""


def smoothed(points: Points, share: float = 0.03) -> list[tuple[int, float]]:
    """An exponential mean over about this share of the points, unbiased at the start."""
    decay = 1 - 1 / max(1.0, share * len(points))
    total = weight = 0.0
    result = []
    for step, value in points:
        total, weight = decay * total + value, decay * weight + 1
        result.append((step, total / weight))
    return result


def line_chart(
    lines: Sequence[Line],
    *,
    digits: str = ",.3g",
    log: bool = False,
    from_zero: bool = False,
    size: tuple[int, int] = (860, 300),
    marked: tuple[int, str] | None = None,
    label: str = "",
) -> str:
    """The chart as an ``<svg>`` element; empty text where there is nothing to draw.

    ``digits`` is the format of values, ``from_zero`` begins their axis at 0, ``marked`` is a step
    with a word on it, ``label`` what a screen reader says.
    """
    drawn = [line for line in lines if line.points]
    values = [v for line in drawn for _, v in line.points if v > 0 or not log]
    if not values:
        return ""
    width, height = size
    last = max(step for line in drawn for step, _ in line.points)
    low, high = _range([0.0, *values] if from_zero else values, log)

    def x(step: float) -> float:
        return _LEFT + (width - _LEFT - _RIGHT) * step / max(last, 1)

    def y(value: float) -> float:
        part = (_scaled(value, log) - low) / (high - low)
        return height - _BOTTOM - (height - _TOP - _BOTTOM) * min(max(part, -0.05), 1.05)

    def path(points: Points) -> str:
        return " ".join(f"{x(step):.1f},{y(v):.1f}" for step, v in points if v > 0 or not log)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}">'
    ]
    for tick in _ticks(low, high, log):
        at = f"{y(tick):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at}" dy="4" class="end">{tick:{digits}}</text>')
    for step in _nice_ticks(0, max(last, 1), 6):
        if step == int(step):
            end = " end" if x(step) > width - 60 else " middle" if step else ""
            parts.append(
                f'<text x="{x(step):.1f}" y="{height - 6}" class="{end.strip()}">{step:,.0f}</text>'
            )
    for line in drawn:
        if line.backdrop:
            parts.append(f'<polyline class="{line.kind} faint" points="{path(line.backdrop)}"/>')
    for line in drawn:
        parts.append(f'<polyline class="{line.kind}" points="{path(line.points)}"/>')
        if line.dots and len(line.points) <= _HOVERS:
            parts += [
                f'<circle class="{line.kind}" cx="{x(step):.1f}" cy="{y(value):.1f}" r="2.5"/>'
                for step, value in line.points
                if value > 0 or not log
            ]
    if marked:
        step, word = marked
        at, end = f"{x(step):.1f}", ' class="end"' if x(step) > width / 2 else ""
        shift = -6 if end else 6
        parts.append(
            f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP}" y2="{height - _BOTTOM}"/>'
            f'<text x="{x(step) + shift:.1f}" y="{_TOP + 10}"{end}>{escape(word)}</text>'
        )
    parts += _hovers(drawn, last, digits, size)
    return "".join([*parts, "</svg>"])


def _hovers(lines: Sequence[Line], last: int, digits: str, size: tuple[int, int]) -> list[str]:
    """Invisible columns with the values there as a tooltip."""
    width, height = size
    longest = max((line.points for line in lines), key=len)
    count = min(_HOVERS, len(longest))
    column = (width - _LEFT - _RIGHT) / count
    rectangles = []
    for i in range(count):
        step = last * (i + 0.5) / count
        near = [(line.name, min(line.points, key=lambda p: abs(p[0] - step))) for line in lines]
        text = "\n".join(f"{name} {v:{digits}} at step {at:,}" for name, (at, v) in near)
        rectangles.append(
            f'<rect class="hover" x="{_LEFT + i * column:.1f}" y="{_TOP}" width="{column:.1f}" '
            f'height="{height - _TOP - _BOTTOM}"><title>{escape(text)}</title></rect>'
        )
    return rectangles


def _scaled(value: float, log: bool) -> float:
    return math.log10(max(value, 1e-300)) if log else value


def _range(values: Sequence[float], log: bool) -> tuple[float, float]:
    """The ends of the vertical axis on its own scale, with some room."""
    low, high = _scaled(min(values), log), _scaled(max(values), log)
    room = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    floor = low - room
    return (max(floor, 0.0) if low >= 0 and not log else floor), high + room


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """The values at the lines of the grid."""
    if not log:
        return _nice_ticks(low, high, 5)
    if high - low < 1:  # less than a decade
        return _nice_ticks(10**low, 10**high, 5)
    return [
        value
        for exponent in range(math.floor(low), math.ceil(high) + 1)
        for factor in ((1, 2, 5) if high - low < 3 else (1,))
        if low <= math.log10(value := factor * 10.0**exponent) <= high
    ]


def _nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, about ``count`` of them."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

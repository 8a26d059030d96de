"""The figures of a run over its steps: a file of JSON lines in its folder, and curves to show.

``history.jsonl`` has a line for each entry of the log and for each held-out loss. A run that
resumes removes what came after its checkpoint, and so the file is that of an uninterrupted run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from ..whole_files import write_text
from .overfitting import Measurement

HISTORY = "history.jsonl"
_MOST_POINTS = 1000
"""Points of a curve, above which neighbours are merged."""


class Curve:
    """A value over steps, with at most about a thousand points however long it is."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self._per_point = 1
        self._waiting: list[tuple[int, float]] = []

    def add(self, step: int, value: float) -> None:
        self._waiting.append((step, value))
        if len(self._waiting) >= self._per_point:
            self.points.append(_merged(self._waiting))
            self._waiting = []
        if len(self.points) > _MOST_POINTS:
            pairs = [self.points[i : i + 2] for i in range(0, len(self.points), 2)]
            self.points = [_merged(pair) for pair in pairs]
            self._per_point *= 2


class History:
    """What was logged up to ``step``, and what is added from there on.

    A file that cannot be written is no reason to lose the run: ``problem`` says so.
    """

    def __init__(self, run: Path, step: int) -> None:
        self.file = run / HISTORY
        self.curves: dict[str, Curve] = {}
        self.measurements: list[Measurement] = []
        self.last: dict[str, float] = {}
        """The newest value of each key."""
        self.problem = ""
        lines = [line for line in self._lines() if line["step"] <= step]
        for line in lines:
            self._count(line)
        if self.file.exists():
            self._attempt(lambda: write_text(self.file, "".join(map(_text, lines))))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append the figures of a step."""
        # JSON has no NaN, and a curve has no place for it.
        line = {"step": step, **{k: v for k, v in values.items() if math.isfinite(v)}}
        self._count(line)
        self._attempt(lambda: self._append(_text(line)))

    def _append(self, text: str) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(text)

    def _attempt(self, write: Callable[[], object]) -> None:
        try:
            write()
            self.problem = ""
        except OSError as error:
            self.problem = f"cannot write {self.file} ({error})"

    def _count(self, line: Mapping[str, float]) -> None:
        step = int(line["step"])
        for key, value in line.items():
            if key != "step":
                self.curves.setdefault(key, Curve()).add(step, value)
                self.last[key] = value
        if "held_out_loss" in line:
            measured = Measurement(step, line["held_out_loss"], line.get("training_loss"))
            self.measurements.append(measured)

    def _lines(self) -> list[dict[str, float]]:
        """The lines of the file that can be read: a killed run may have left half of one."""
        try:
            texts = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        return [line for line in map(_figures, texts) if "step" in line]


def _figures(text: str) -> dict[str, float]:
    try:
        return {str(key): float(value) for key, value in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _merged(points: list[tuple[int, float]]) -> tuple[int, float]:
    """The last step, and the mean value."""
    return points[-1][0], sum(value for _, value in points) / len(points)


def _text(line: Mapping[str, float]) -> str:
    return json.dumps({**line, "step": int(line["step"])}) + "\n"

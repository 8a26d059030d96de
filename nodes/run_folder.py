"""The folder of a training run, read while the trainer writes it.

A checkpoint appears there complete: the trainer writes it under another name and renames it. Old
ones are removed at any time. ``training/train/checkpoints/run_folder.py`` documents the layout;
nothing of the trainer is imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

CHECKPOINTS, SAMPLES, RUNS = "checkpoints", "samples", "runs"
SUMMARY, WEIGHTS, LORA = "summary.json", "model.safetensors", "lora.safetensors"
RAW = "none"
"""In place of a decay: the weights themselves."""
WEIGHTS_IN_PARTS = "model.parts"
"""The folder in place of ``WEIGHTS`` where each of several processes has saved a part."""

_STEP = re.compile(r"step-(\d{8,})")
_AVERAGE = re.compile(r"ema-(\d*\.?\d+)\.(?:safetensors|parts)")


class RunError(ValueError):
    """A folder that is no training run, or a run without what is asked of it."""


@dataclass(frozen=True, slots=True)
class RunCheckpoint:
    """A complete checkpoint of a run."""

    folder: Path
    step: int

    @property
    def saved(self) -> float:
        """When it was completed, in seconds since 1970; 0 where it was just removed."""
        try:
            return (self.folder / SUMMARY).stat().st_mtime
        except OSError:
            return 0.0

    def averages(self) -> dict[float, Path]:
        """The files of its moving averages, or the folders of their parts, by decay."""
        return {
            float(match[1]): path
            for path in _entries(self.folder)
            if (match := _AVERAGE.fullmatch(path.name))
        }

    def weights_file(self, average: str = "") -> Path:
        """The file of the average with this decay; of the slowest, or ``RAW``, the weights.

        A folder holds the parts that several processes have saved of it. Raises ``RunError`` that
        lists the averages where there is no such one.
        """
        text = average.strip().lower().removeprefix("ema-")
        text = text.removesuffix(".safetensors").removesuffix(".parts")
        if text == RAW:
            parts = self.folder / WEIGHTS_IN_PARTS
            return parts if parts.is_dir() else self.folder / WEIGHTS
        averages = self.averages()
        try:
            return averages[float(text) if text else max(averages)]
        except (KeyError, ValueError):
            found = ", ".join(map(str, sorted(averages))) or "no averages"
            raise RunError(
                f'{self.folder} has no average "{average}". It has: {found}. Leave the average '
                f'empty for the slowest, or write "{RAW}" for the weights themselves.'
            ) from None

    def summary(self) -> Mapping[str, Any]:
        """Counters of the run; empty where they cannot be read."""
        try:
            content = json.loads((self.folder / SUMMARY).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def describe(self, weights: Path) -> str:
        """One line on the run at this checkpoint, and on the file of ``weights``."""
        about = self.summary()
        config = about.get("config")
        total = config.get("steps") if isinstance(config, dict) else None
        parts = [
            str(self.folder.parent.parent),
            f"step {self.step}" + (f" of {total}" if isinstance(total, int) else ""),
        ]
        if isinstance(epoch := about.get("epoch"), int):
            parts.append(f"epoch {epoch}")
        if isinstance(images := about.get("images"), int):
            parts.append(f"{images} images")
        if isinstance(loss := about.get("loss"), float):
            parts.append(f"loss {loss:.4g}")
        parts.append(weights.stem)
        if (self.folder / LORA).is_file():
            parts.append("with the adapters of this LoRA run added")
        if self.saved:
            parts.append(f"saved {datetime.fromtimestamp(self.saved):%Y-%m-%d %H:%M}")
        return " · ".join(parts)


def find_run(text: str, root: Path) -> Path:
    """The folder of the run that somebody typed, or pasted with quotation marks around it.

    A relative path starts at ``root``. A folder or file inside of a run means the run. An empty
    text is the run in ``root/runs`` that saved last. Raises ``RunError`` that lists those runs.
    """
    typed = text.strip().strip("\"'“”").strip()
    if not typed:
        runs = [run for run in runs_in(root / RUNS) if checkpoints(run)]
        if not runs:
            raise RunError(
                f"No training run was given, and none in {root / RUNS} has saved a checkpoint yet. "
                "Type the folder that was the trainer's --output."
            )
        return max(runs, key=lambda run: checkpoints(run)[-1].saved)
    path = root / Path(typed)
    if typed.startswith("~/"):
        path = path.home() / typed[2:]
    for run in (path, *list(path.parents)[:4]):
        if (run / CHECKPOINTS).is_dir():
            return run
    found = ", ".join(str(run) for run in runs_in(root / RUNS))
    raise RunError(
        f"{path} is not the folder of a training run: there is no {CHECKPOINTS} folder in it. "
        + (f"Runs in {root / RUNS}: {found}." if found else "Type the trainer's --output.")
    )


def runs_in(folder: Path) -> list[Path]:
    """The runs in a folder, and in its folders."""
    return [
        run
        for entry in _entries(folder)
        for run in (entry, *_entries(entry))
        if (run / CHECKPOINTS).is_dir()
    ]


def checkpoints(run: Path) -> list[RunCheckpoint]:
    """The complete checkpoints of a run, oldest first."""
    found = [
        RunCheckpoint(path, int(match[1]))
        for path in _entries(run / CHECKPOINTS)
        if (match := _STEP.fullmatch(path.name)) and (path / SUMMARY).is_file()
    ]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def newest(run: Path) -> RunCheckpoint:
    """The newest complete checkpoint. Raises ``RunError`` where there is none."""
    found = checkpoints(run)
    if not found:
        raise RunError(
            f"{run} has no complete checkpoint yet. A run saves one every checkpoints.every steps, "
            "at its end, and when it is stopped: queue this again later."
        )
    return found[-1]


def sample_sheet(run: Path) -> Path | None:
    """The newest sample sheet of a run, if there is one."""
    sheets = {
        int(match[1]): path
        for path in _entries(run / SAMPLES)
        if path.suffix == ".png" and (match := _STEP.fullmatch(path.stem))
    }
    return sheets[max(sheets)] if sheets else None


def state_of(run: Path) -> str:
    """A text that changes when the run saves a checkpoint or draws a sample sheet."""
    checkpoint, sheet = newest(run), sample_sheet(run)
    drawn = sheet.stat().st_mtime_ns if sheet is not None else 0
    return f"{checkpoint.folder} {checkpoint.saved} {sheet} {drawn}"


def _entries(folder: Path) -> Iterator[Path]:
    """What is in a folder; nothing where it cannot be read, or is none."""
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return

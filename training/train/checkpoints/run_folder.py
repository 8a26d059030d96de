"""The names of everything in the folder of a run, and its configuration.

runs/mine/config.yaml                                         the resolved configuration
runs/mine/checkpoints/step-00000200/summary.json              counters, loss, place in the data
runs/mine/checkpoints/step-00000200/model.safetensors         weights
runs/mine/checkpoints/step-00000200/ema-0.999.safetensors     one per moving average
runs/mine/checkpoints/step-00000200/lora.safetensors          adapters, if any, for ComfyUI
runs/mine/checkpoints/step-00000200/state.safetensors         what only resuming needs
runs/mine/index.html                                          the page to watch
runs/mine/history.jsonl                                       figures of every logged step
runs/mine/held_out.json                                       names of the held-out images, if any
runs/mine/samples/step-00000200.png                           sample sheets
runs/mine/logs/                                               of the tracker

Where the weights are sharded over processes, a folder of parts takes the place of each file, one
part per process: model.parts/part-00001-of-00008.safetensors.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from ...whole_files import write_whole
from ..config import TrainingConfig
from ..config_parser import config_from_dict

CONFIG = "config.yaml"
CHECKPOINTS, SAMPLES, LOGS = "checkpoints", "samples", "logs"
SUMMARY = "summary.json"
MODEL = "model.safetensors"
LORA = "lora.safetensors"
STATE = "state.safetensors"
SUFFIX = ".safetensors"
PARTS = ".parts"
"""Ending of the folder that holds a file in parts, in place of the file's own."""

_AVERAGE = re.compile(rf"ema-([\d.e-]+)(?:{re.escape(SUFFIX)}|{re.escape(PARTS)})")
_STEP = re.compile(r"step-(\d{8,})")


class RunError(ValueError):
    """A run or a checkpoint of one that is missing, or cannot be read or written.

    The message says which, why, and what to do.
    """


def ema_file(decay: float) -> str:
    return f"ema-{decay}{SUFFIX}"


def parts_folder(file: str) -> str:
    """The name of the folder with the parts of ``file``, such as model.parts."""
    return file.removesuffix(SUFFIX) + PARTS


def part_name(process: int, processes: int) -> str:
    """The name of the part that a process writes; processes count from 0."""
    return f"part-{process + 1:05d}-of-{processes:05d}{SUFFIX}"


def find_file(checkpoint: Path, file: str) -> Path:
    """Where ``file`` of a checkpoint is: itself, or the folder with its parts.

    The reading functions of ``comfyui_fitv2`` take either.
    """
    parts = checkpoint / parts_folder(file)
    return parts if parts.is_dir() else checkpoint / file


def averages(checkpoint: Path) -> dict[float, Path]:
    """Where the moving averages of a checkpoint are, by decay: files, or folders of parts."""
    return {
        float(match[1]): path
        for path in checkpoint.iterdir()
        if (match := _AVERAGE.fullmatch(path.name))
    }


def step_name(step: int) -> str:
    return f"step-{step:08d}"


def is_checkpoint(path: Path) -> bool:
    return bool(_STEP.fullmatch(path.name)) and path.is_dir()


def step_of(checkpoint: Path) -> int:
    match = _STEP.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1])


def store_config(config: TrainingConfig) -> None:
    """Write the resolved configuration atomically."""
    run = Path(config.output)
    run.mkdir(parents=True, exist_ok=True)
    with write_whole(run / CONFIG) as temporary:
        text = yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")


def stored_config(run: Path) -> TrainingConfig | None:
    """The configuration in the folder of a run, if there is one.

    Raises ``RunError`` on a damaged file, ``ConfigError`` on one with unknown or unusable values.
    """
    file = run / CONFIG
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{file} is damaged ({reason}). Nothing was changed or removed.") from None
    if not isinstance(content, dict):
        raise RunError(f"{file} holds no configuration. Nothing was changed or removed.")
    return config_from_dict(content, str(file))

"""From a run to a file that FiT Loader lists, that the published code reads, or, of adapters, that ComfyUI's LoRA loader takes.

python -m training.export --run runs/mine --output mine.safetensors
python -m training.export --run runs/mine --output ~/ComfyUI             into its models/fit, under the run's name
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from comfyui_fitv2.checkpoint import read_checkpoint, save_checkpoint
from comfyui_fitv2.config import PRESETS, FiTConfig, LatentFormat, Metadata

from .command_line import run_command
from .train.checkpoints.reader import (
    LORA,
    MODEL,
    CheckpointError,
    checkpoints,
    latest,
    read_summary,
    read_tensors,
    step_of,
)
from .whole_files import TEMPORARY_SUFFIX

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WEIGHTS = ("ema", "raw", "lora")
OWN, OFFICIAL = "fitv2", "official"
SUFFIX = ".safetensors"

_HOST_FOLDERS = ("checkpoints", "diffusion_models", "vae", "fit")
"""Of these a ComfyUI's ``models`` folder has some."""
_EMA_FILE = re.compile(r"ema-([\d.e-]+)\.safetensors")


def export(
    run: Path,
    output: Path,
    *,
    weights: str = "ema",
    decay: float | None = None,
    step: int | None = None,
    dtype: str = "float32",
    layout: str = OWN,
    overwrite: bool = False,
) -> tuple[Path, Metadata]:
    """Write a run's weights as one safetensors file; what was written, and what it says of itself.

    ``weights`` is "ema", of the largest ``decay`` where none is named, "raw", or "lora", the adapters of a run that trained some; ``step`` the
    newest checkpoint's where None; ``output`` as in ``target``. The official layout has the same keys and no metadata. A model is read
    back before its file gets its name. Raises ``CheckpointError`` on a run without such weights, ``FileExistsError``, and ``ValueError``
    on a name that no loader lists.
    """
    checkpoint = _at_step(run, step)
    summary = read_summary(checkpoint)
    source, origin = _weights_file(checkpoint, weights, decay)
    path = target(output, run, "loras" if weights == "lora" else "fit")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists already. Name another --output, or replace it by --overwrite."
        )
    metadata = Metadata(
        FiTConfig.from_dict(summary["fit"]),
        summary.get("class_names"),
        LatentFormat(**summary["latent_format"]) if summary.get("latent_format") else None,
        _training_summary(run, summary, origin),
    )
    state_dict = {
        key: value.to(DTYPES[dtype])
        for key, value in read_tensors(source.parent, source.name).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        if weights != "lora":
            save_checkpoint(unchecked, state_dict, metadata)
            read_checkpoint(unchecked)
        if weights == "lora" or layout == OFFICIAL:
            save_file(state_dict, unchecked, {"format": "pt"})
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return path, metadata


def target(output: Path, run: Path, kind: str = "fit") -> Path:
    """The file that ``output`` means: itself, or one of the run's name in a folder: in ``kind`` of a ComfyUI's ``models``, in ``models`` of a ComfyUI."""
    name = run.resolve().name + SUFFIX
    if not output.is_dir():
        if output.suffix != SUFFIX:
            raise ValueError(
                f"{output} is neither a folder that exists nor a file name that ends in {SUFFIX}, which ComfyUI lists."
            )
        return output
    if (output / "models").is_dir() and any(
        (output / folder).is_dir() for folder in ("comfy", "custom_nodes")
    ):
        output = output / "models"
    is_models = (
        output.name == "models" or sum((output / folder).is_dir() for folder in _HOST_FOLDERS) > 1
    )
    return (output / kind if is_models else output) / name


def _at_step(run: Path, step: int | None) -> Path:
    newest = latest(run)
    if step is None:
        return newest
    found = {step_of(checkpoint): checkpoint for checkpoint in checkpoints(run)}
    if step not in found:
        raise CheckpointError(
            f"{run} has no checkpoint of step {step}. It has: {', '.join(map(str, sorted(found)))}."
        )
    return found[step]


def _weights_file(checkpoint: Path, weights: str, decay: float | None) -> tuple[Path, str]:
    """The file to read, and what it holds in words."""
    if weights == "raw":
        return checkpoint / MODEL, "raw"
    if weights == "lora":
        if not (checkpoint / LORA).is_file():
            raise CheckpointError(
                f"{checkpoint} holds no adapters: its run trained the weights themselves. Export them without --weights lora."
            )
        return checkpoint / LORA, "LoRA"
    averages = {
        float(match[1]): path
        for path in checkpoint.iterdir()
        if (match := _EMA_FILE.fullmatch(path.name))
    }
    decay = max(averages, default=None) if decay is None else decay
    if decay not in averages:
        raise CheckpointError(
            f"{checkpoint} holds no moving average of decay {decay}. It holds: {', '.join(map(str, sorted(averages)))}."
        )
    return averages[decay], f"ema {decay}"


def _training_summary(run: Path, summary: dict[str, Any], origin: str) -> dict[str, Any]:
    counts = {
        key: summary[key] for key in ("step", "images", "tokens", "epoch", "loss") if key in summary
    }
    return {
        "run": run.resolve().name,
        "weights": origin,
        **counts,
        "config": _without_folders(summary.get("config", {})),
    }


def _without_folders(value: Any) -> Any:
    """Absolute paths cut to their last part: the file is made to be shared, the folders of its maker's machine are not."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~")):
        return Path(value).name
    return value


def _is_published_size(config: FiTConfig) -> bool:
    return any(
        (config.hidden_size, config.depth, config.adaln_lora_dim)
        == (p.hidden_size, p.depth, p.adaln_lora_dim)
        for p in PRESETS.values()
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.export",
        description="Write a run's weights as one safetensors file.",
    )
    parser.add_argument(
        "--run", type=Path, required=True, help="folder that training wrote, such as runs/mine"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="a .safetensors file, a ComfyUI, its models folder, or any other folder",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHTS,
        default="ema",
        help="moving average (default), the weights themselves, or a LoRA run's adapters",
    )
    parser.add_argument(
        "--ema",
        type=float,
        metavar="DECAY",
        help="which moving average; default: the largest decay",
    )
    parser.add_argument("--step", type=int, help="which checkpoint; default: the newest")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="bfloat16 is half as large"
    )
    parser.add_argument(
        "--layout",
        choices=(OWN, OFFICIAL),
        default=OWN,
        help="official: as model_ema.safetensors, without metadata",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)

    def command() -> None:
        path, metadata = export(
            options.run,
            options.output.expanduser(),
            weights=options.weights,
            decay=options.ema,
            step=options.step,
            dtype=options.dtype,
            layout=options.layout,
            overwrite=options.overwrite,
        )
        parameters = sum(value.numel() for value in load_file(path).values())
        training = metadata.training
        print(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB, {parameters / 1e6:.2f} M parameters in {options.dtype}, "
            f"{metadata.config.num_classes} classes, {training['weights']} weights of step {training.get('step', '?')}"
        )
        if options.layout == OFFICIAL and not _is_published_size(metadata.config):
            print(
                "note: without metadata the published sizes alone are recognised, and this model has another: FiT Loader needs the other layout"
            )

    return run_command(command)


if __name__ == "__main__":
    raise SystemExit(main())

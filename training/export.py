"""Export a run's weights as one safetensors file.

python -m training.export --run runs/mine --output mine.safetensors
python -m training.export --run runs/mine --output ~/ComfyUI       models/fit/mine.safetensors there
python -m training.export --checkpoint mine.safetensors --class-sheet      only mine.classes.webp

FiT Loader reads the file; with --layout official the published code does, and with --weights lora
ComfyUI's LoRA loader. A class sheet has a small picture of every class, drawn by the model; the
class picker of the nodes shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from comfyui_fitv2.checkpoint import read_checkpoint, save_checkpoint
from comfyui_fitv2.config import PRECISIONS, PRESETS, FiTConfig
from comfyui_fitv2.metadata import Metadata
from comfyui_fitv2.resolution import parse_size

from .command_line import parse_options, run_command
from .failures import explained
from .processes import find_device
from .sample.class_sheet import draw_class_sheet
from .sample.sampler import Sampler
from .train.checkpoints.reader import (
    checkpoints,
    latest,
    read_metadata,
    read_summary,
    read_tensors,
)
from .train.checkpoints.run_folder import LORA, MODEL, RunError, averages, find_file, step_of
from .train.checkpoints.summary import CheckpointSummary
from .whole_files import write_whole

SUFFIX = ".safetensors"
_HOST_FOLDERS = ("checkpoints", "diffusion_models", "vae", "fit")
"""A ComfyUI's ``models`` folder has at least two of these."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of the command."""

    run: Path | None = None
    """Folder that training wrote, such as runs/mine."""
    output: Path | None = None
    """A .safetensors file, a ComfyUI folder, its models folder, or any other existing folder."""
    checkpoint: Path | None = None
    """With --class-sheet, a finished checkpoint in place of --run and --output."""
    weights: Literal["ema", "raw", "lora"] = "ema"
    """The moving average, the weights themselves, or the adapters of a LoRA run."""
    ema: float | None = None
    """Decay of the moving average; by default the largest."""
    step: int | None = None
    """Step of the checkpoint; by default the newest."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the weights in the file; bf16 is half as large."""
    layout: Literal["fitv2", "official"] = "fitv2"
    """The official layout has the same tensors as model_ema.safetensors and no metadata."""
    overwrite: bool = False
    """Replace an existing file."""
    class_sheet: bool = False
    """Also draw every class, small, on one sheet beside the file: mine.classes.webp. The same
    command with --checkpoint resumes a sheet that was stopped."""
    sheet_size: str = "1:1"
    """Proportions of the classes on the sheet, such as 3:2, or their size in pixels."""
    vae: str | None = None
    """The VAE for the sheet: "tiny", a file, or a diffusers folder; by default the one that the
    checkpoint says."""
    device: str | None = None
    """Device that draws the sheet, such as cpu or cuda:1; by default the one that accelerate
    assigns."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    metadata: Metadata
    """As in the file, or as it would be in layouts without metadata."""
    parameters: int


def export(options: ExportOptions) -> Exported:
    """Write one file of a run's weights, atomically, and only if it reads back as it should.

    Raises ``RunError`` where the run has no such weights, ``CheckpointError`` where they cannot be
    used, ``FileExistsError``, and ``ValueError`` on a file name that no loader lists.
    """
    if options.run is None or options.output is None:
        raise ValueError("Name the folder of a run with --run, and a file with --output.")
    if options.class_sheet and (options.weights == "lora" or options.layout == "official"):
        raise ValueError(
            "A class sheet is drawn with a checkpoint in the layout fitv2. Leave --class-sheet out."
        )
    folder = _checkpoint(options.run, options.step)
    source, origin = _weights_file(folder, options.weights, options.ema)
    is_lora = options.weights == "lora"
    path = target(options.output.expanduser(), options.run, "loras" if is_lora else "fit")
    if path.exists() and not options.overwrite:
        raise FileExistsError(
            f"{path} exists already. Name another --output, or add --overwrite to replace it."
        )
    if is_lora:
        weights, metadata = read_tensors(folder, LORA), read_metadata(folder)
    else:
        checkpoint = read_checkpoint(source)
        weights, metadata = checkpoint.state_dict, checkpoint.metadata
    training = _training_summary(options.run, read_summary(folder), origin)
    metadata = replace(metadata, training={**metadata.training, **training})
    precision = PRECISIONS[options.precision]
    state_dict = {key: value.to(precision) for key, value in weights.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    has_metadata = not is_lora and options.layout == "fitv2"
    with write_whole(path) as temporary:
        if has_metadata:
            save_checkpoint(temporary, state_dict, metadata)
        else:
            save_file(state_dict, temporary, {"format": "pt"})
        _check_written(temporary, state_dict, has_metadata)
    return Exported(path, metadata, sum(value.numel() for value in state_dict.values()))


def class_sheet(options: ExportOptions, checkpoint: Path) -> Path:
    """Draw the classes of ``checkpoint``; returns the file of the sheet.

    Raises as ``Sampler.open`` and ``draw_class_sheet`` do.
    """
    device = torch.device(options.device or str(PartialState().device))
    sampler = Sampler.open(checkpoint, options.vae, device=device)
    config = sampler.loaded.config
    size = parse_size(options.sheet_size, config.train_tokens)
    sizes = [size] * config.num_classes
    return draw_class_sheet(sampler, checkpoint, sizes, overwrite=options.overwrite)


def target(output: Path, run: Path, kind: str = "fit") -> Path:
    """The file that ``output`` names: itself, or a file with the run's name in that folder.

    If the folder is a ComfyUI or its ``models``, the file goes to ``models/<kind>``. Raises
    ``ValueError`` on a file name that ComfyUI does not list.
    """
    if not output.is_dir():
        if output.suffix != SUFFIX:
            raise ValueError(
                f"{output} is neither an existing folder nor a file name that ends in {SUFFIX}, "
                "which ComfyUI lists."
            )
        return output
    is_host = any((output / folder).is_dir() for folder in ("comfy", "custom_nodes"))
    if is_host and (output / "models").is_dir():
        output = output / "models"
    known = sum((output / folder).is_dir() for folder in _HOST_FOLDERS)
    if output.name == "models" or known > 1:
        output = output / kind
    return output / (run.resolve().name + SUFFIX)


def _checkpoint(run: Path, step: int | None) -> Path:
    newest = latest(run)
    if step is None:
        return newest
    found = {step_of(checkpoint): checkpoint for checkpoint in checkpoints(run)}
    if step not in found:
        steps = ", ".join(map(str, sorted(found)))
        raise RunError(f"{run} has no checkpoint of step {step}. It has: {steps}.")
    return found[step]


def _weights_file(checkpoint: Path, weights: str, decay: float | None) -> tuple[Path, str]:
    """The file to read, or the folder of its parts, and what it holds in words."""
    if weights == "raw":
        return find_file(checkpoint, MODEL), "raw"
    if weights == "lora":
        if not (checkpoint / LORA).is_file():
            raise RunError(
                f"{checkpoint} has no adapters: its run trained the weights themselves. Export "
                "them without --weights lora."
            )
        return checkpoint / LORA, "LoRA"
    found = averages(checkpoint)
    decay = max(found, default=None) if decay is None else decay
    if decay not in found:
        decays = ", ".join(map(str, sorted(found)))
        raise RunError(f"{checkpoint} has no moving average with decay {decay}. It has: {decays}.")
    return found[decay], f"ema {decay}"


def _check_written(file: Path, expected: Mapping[str, Tensor], has_metadata: bool) -> None:
    """Raise ``RunError`` unless the file reads back as exactly the ``expected`` tensors."""
    try:
        written = read_checkpoint(file).state_dict if has_metadata else load_file(file)
        intact = written.keys() == expected.keys() and all(
            torch.equal(written[key], value) for key, value in expected.items()
        )
    except (ValueError, SafetensorError):
        intact = False
    if not intact:
        raise RunError(
            f"Nothing was exported: the file in {file.parent} did not read back as it was written. "
            "Check that disk and the run's weights, then export again."
        )


def _training_summary(run: Path, summary: CheckpointSummary, origin: str) -> dict[str, Any]:
    """What the file says about its training."""
    return {
        "run": run.resolve().name,
        "weights": origin,
        "step": summary.step,
        "images": summary.images,
        "tokens": summary.tokens,
        "epoch": summary.epoch,
        "loss": summary.loss,
        "config": _without_folders(summary.config),
    }


def _without_folders(value: Any) -> Any:
    """Replace absolute paths with their last part: the file may be shared, the paths may not."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith("~")):
        return Path(value).name
    return value


def _is_published_size(config: FiTConfig) -> bool:
    def shape(config: FiTConfig) -> tuple[int, int, int]:
        return config.hidden_size, config.depth, config.adaln_lora_dim

    return shape(config) in map(shape, PRESETS.values())


def _draw(options: ExportOptions, checkpoint: Path) -> None:
    with explained(
        "Draw the sheet on a machine with more memory.",
        last_state=lambda: f"Resume with --checkpoint {checkpoint} --class-sheet.",
    ):
        path = class_sheet(options, checkpoint)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.export``; returns the exit status."""

    def command() -> None:
        options = parse_options(
            ExportOptions,
            argv,
            prog="python -m training.export",
            description="Export a run's weights as one safetensors file.",
        )
        if options.class_sheet and options.device is not None:
            find_device(options.device)  # before anything is written
        if options.checkpoint is not None:
            if options.run or options.output or not options.class_sheet:
                raise ValueError(
                    "--checkpoint is a finished file, whose sheet --class-sheet draws. To export a "
                    "run, name --run and --output."
                )
            _draw(options, options.checkpoint)
            return
        with explained("Use a machine with more memory."):
            exported = export(options)
        training, config = exported.metadata.training, exported.metadata.config
        print(
            f"{exported.path}: {exported.path.stat().st_size / 1e6:.1f} MB, "
            f"{exported.parameters / 1e6:.2f} M parameters in {options.precision}, "
            f"{config.num_classes} classes, {training['weights']} weights of step "
            f"{training['step']}"
        )
        if options.layout == "official" and not _is_published_size(config):
            print(
                "note: without metadata only the published sizes are recognised, and this model "
                "has another. FiT Loader needs the layout fitv2."
            )
        if options.class_sheet:
            _draw(options, exported.path)

    return run_command(command)


if __name__ == "__main__":
    raise SystemExit(main())

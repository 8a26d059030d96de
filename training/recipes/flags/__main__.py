"""From the package registry to the bundled checkpoint and VAE, in one command that resumes.

    python -m training.recipes.flags --output runs/flags

It fetches the flags, trains the tiny VAE on them and then its decoder alone, encodes the flags,
trains a FiT first on few tokens, then on 256 and then on up to 1,024, and exports it. Each of these
steps is one of the trainer's own commands, printed as a person would type it. Last, the file is
told what else its classes are called.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from comfyui_fitv2.autoencoder import load_autoencoder, save_autoencoder

from ...command_line import by_path, run_command, to_type
from ...data.bundled import BUNDLED_CHECKPOINT, TINY_FILE
from ...train.checkpoints.reader import latest, read_summary
from .describe import RESULTS, DescribeOptions, describe
from .flags import METADATA, NATIVE, fetch, read_flags, write_versions

HERE = Path(__file__).parent
NATIVES = [(NATIVE, 256)]
"""Versions of a flag that the VAE is trained on."""
_RATIOS = ("3:1", "2:1", "3:2", "1:1", "4:5", "2:3", "1:2", "1:3")
SMALL = [(NATIVE, 64), (NATIVE, 100), *((ratio, 64) for ratio in _RATIOS)]
"""Versions that the FiT is trained on first."""
LARGE = [(NATIVE, 256), (NATIVE, 196), *((ratio, 256) for ratio in _RATIOS)]
"""Versions that the FiT is trained on then."""
HR = [*LARGE, (NATIVE, 576), (NATIVE, 1024)]
"""Versions that the FiT is trained on last."""
STAGES = {"small": SMALL, "large": LARGE, "hr": HR}
"""The trainings of the FiT, each with what it is trained on and a configuration of its name."""
_IMAGE_SIZE = 512
"""Side in pixels of the largest square that is encoded: 1,024 tokens."""
VAE_FILE, MODEL_FILE = TINY_FILE.name, BUNDLED_CHECKPOINT.name
_DECODER_RATE = 1e-3
"""Half the learning rate of the whole VAE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeOptions:
    """Options of the recipe."""

    output: Path = Path("runs/flags")
    """Folder for everything that the recipe makes. The same command resumes where it stopped."""
    flags: int | None = None
    """Number of flags, for a trial; by default all 256."""
    vae_steps: int = 3300
    """Training steps of the VAE."""
    decoder_steps: int = 4000
    """Training steps of the VAE's decoder alone, after the encoder has its final form."""
    small_steps: int | None = None
    """Training steps on few tokens; by default those of small.yaml."""
    large_steps: int | None = None
    """Training steps on 256 tokens; by default those of large.yaml."""
    hr_steps: int | None = None
    """Training steps on up to 1,024 tokens; by default those of hr.yaml."""
    results: Path | None = RESULTS
    """Table of the report that tells the best extrapolation; by default the shipped one."""


def run_recipe(options: RecipeOptions, training_options: Sequence[str] = ()) -> None:
    """Do what is not done yet. ``training_options`` go to all trainings of the FiT.

    Raises ``ValueError`` or ``OSError`` where a step fails.
    """
    out = options.output
    fetch(out / "package")
    flags = read_flags(out / "package")[: options.flags]
    for name, versions in (("natives", NATIVES), *STAGES.items()):
        write_versions(flags, _images(out, name), versions)
    natives = _image_options(out, "natives")
    _command("train_vae", *natives, "--output", out / "vae", "--steps", options.vae_steps)
    # The decoder is trained with the encoder as it is shipped, rounded to bf16.
    encoder = in_bf16(out / "vae" / "vae.safetensors", out / "vae" / VAE_FILE)
    decoder = ("--decoder-of", encoder, "--learning-rate", _DECODER_RATE)
    steps = ("--steps", options.decoder_steps)
    _command("train_vae", *natives, "--output", out / "decoder", *decoder, *steps)
    vae = in_bf16(out / "decoder" / "vae.safetensors", out / VAE_FILE)
    fit_steps = {"small": options.small_steps, "large": options.large_steps, "hr": options.hr_steps}
    init: tuple[object, ...] = ()
    for before, name in zip((None, *STAGES), STAGES, strict=False):
        if before:
            init = ("--init", _export(out, before, out / f"{before}.safetensors", "fp32"))
        latents = ("--output", out / "latents" / name, "--vae", vae)
        encoding = ("--image-size", _IMAGE_SIZE, "--no-flip", "--precision", "bf16")
        _command("prepare", *_image_options(out, name), *latents, *encoding)
        _train(out, name, fit_steps[name], *init, *training_options)
    _export(out, "hr", out / MODEL_FILE, "bf16")
    describe(
        DescribeOptions(
            checkpoint=out / MODEL_FILE,
            flags=out / "package",
            results=options.results,
            class_sheet=True,
            vae=vae,
        )
    )


def in_bf16(source: Path, target: Path) -> Path:
    """Write the VAE ``source`` with bf16 weights to ``target``, unless it exists, and return it.

    Its scale and shift, which are compared with those of checkpoints, stay in fp32.
    """
    if not target.is_file():
        autoencoder = load_autoencoder(source)
        for parameter in autoencoder.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        save_autoencoder(target, autoencoder, "tiny VAE of 256 flags, by training.recipes.flags")
    return target


def _images(out: Path, name: str) -> Path:
    return out / "pictures" / name  # the name in folders of earlier versions


def _image_options(out: Path, name: str) -> tuple[object, ...]:
    folder = _images(out, name)
    return "--images", folder, "--metadata", folder / METADATA


def _train(out: Path, name: str, steps: int | None, *more: object) -> None:
    run = out / "runs" / name
    _command(
        "train",
        *("--config", HERE / f"{name}.yaml"),
        *("--data", out / "latents" / name),
        *("--output", run),
        *("--samples.vae", out / VAE_FILE),
        *("--resume", "latest"),
        *(() if steps is None else ("--steps", steps)),
        *more,
    )
    summary = read_summary(latest(run))
    if summary.step < summary.config["steps"]:  # a training that was stopped exits with 0
        raise ValueError(
            f"the training was stopped at step {summary.step}. The same command resumes from here."
        )


def _export(out: Path, name: str, file: Path, precision: str) -> Path:
    if not file.is_file():
        run = out / "runs" / name
        _command("export", "--run", run, "--output", file, "--precision", precision)
    return file


def _command(verb: str, *arguments: object) -> None:
    options = [*map(str, arguments)]
    print(f"python -m training.{verb} {to_type(options)}", flush=True)
    status = subprocess.run([*by_path(verb), *options]).returncode
    if status:
        raise ValueError(
            f"training.{verb} ended with status {status}, for the reason above. "
            "The same command resumes from here."
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.recipes.flags``; returns the exit status."""

    def command() -> None:
        # Not parse_options: options that the recipe does not know are those of the trainings.
        options, training_options = tyro.cli(
            RecipeOptions,
            prog="python -m training.recipes.flags",
            description="Train the bundled checkpoint and VAE. Other options go to all trainings.",
            args=argv,
            return_unknown_args=True,
        )
        run_recipe(options, training_options)

    return run_command(command, "The same command resumes from here.")


if __name__ == "__main__":
    raise SystemExit(main())

"""From the package registry to the bundled checkpoint and VAE, in one command that goes on where it was ended.

    python -m training.recipes.flags --output runs/flags

Fetches the flags, trains the tiny VAE on them and then its decoder alone, encodes them with it, trains a FiT on few tokens and then on 256, and exports.
Each step is one of the trainer's own commands, printed as a person would type it.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from comfyui_fitv2.autoencoder import load_autoencoder, save_autoencoder

from ...command_line import run_command
from ...train.checkpoints.reader import latest, read_summary
from .flags import METADATA, NATIVE, draw, fetch, read_flags

HERE = Path(__file__).parent
NATIVES = [(NATIVE, 256)]
"""What the VAE is trained on."""
SMALL = [(NATIVE, 64), ("1:1", 64), ("3:2", 64), ("2:1", 64), (NATIVE, 100)]
LARGE = [(NATIVE, 256), ("1:1", 256), ("3:2", 256), ("2:1", 256), (NATIVE, 196)]
"""What the FiT is trained on, first and then."""
VAE_FILE, MODEL_FILE = "fit_tiny_vae.safetensors", "fitv2_flags256.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    output: Path
    """Folder of all that it makes, MODEL_FILE and VAE_FILE among it."""
    flags: int | None = None
    """How many of them, for a trial; None takes all."""
    vae_steps: int = 3300
    decoder_steps: int = 4000
    """Of the VAE's decoder alone, once the encoder is as it will be shipped."""
    small_steps: int | None = None
    large_steps: int | None = None
    """None is as the YAML files beside this one say."""
    options: tuple[str, ...] = ()
    """More options for both trainings."""

    def run(self) -> None:
        """Do what is not done yet. Raises ``ValueError`` or ``OSError`` where a step fails."""
        out = self.output
        fetch(out / "package")
        flags = read_flags(out / "package")[: self.flags]
        for name, versions in (("natives", NATIVES), ("small", SMALL), ("large", LARGE)):
            draw(flags, out / "pictures" / name, versions)
        natives = _pictures(out, "natives")
        _command("train_vae", *natives, "--output", out / "vae", "--steps", self.vae_steps)
        encoder = in_bf16(out / "vae" / "vae.safetensors", out / "vae" / VAE_FILE)
        _command(
            "train_vae",
            *natives,
            "--output",
            out / "decoder",
            "--decoder-of",
            encoder,
            "--steps",
            self.decoder_steps,
            "--learning-rate",
            1e-3,
        )
        vae = in_bf16(out / "decoder" / "vae.safetensors", out / VAE_FILE)
        for name in ("small", "large"):
            _command(
                "prepare",
                *_pictures(out, name),
                "--output",
                out / "latents" / name,
                "--vae",
                vae,
                "--no-flip",
                "--precision",
                "bf16",
            )
        self._train("small", self.small_steps)
        self._export("small", out / "small.safetensors", "float32")
        self._train("large", self.large_steps, "--init", out / "small.safetensors")
        self._export("large", out / MODEL_FILE, "bfloat16")

    def _train(self, name: str, steps: int | None, *more: object) -> None:
        length = () if steps is None else ("--steps", steps)
        folders = (
            "--data",
            self.output / "latents" / name,
            "--output",
            self.output / "runs" / name,
            "--samples.vae",
            self.output / VAE_FILE,
        )
        _command(
            "train",
            "--config",
            HERE / f"{name}.yaml",
            *folders,
            "--resume",
            "latest",
            *length,
            *more,
            *self.options,
        )
        summary = read_summary(latest(self.output / "runs" / name))
        if (
            summary["step"] < summary["config"]["steps"]
        ):  # a training that was told to stop ends well
            raise ValueError(
                f"the training was stopped at step {summary['step']}. The same command goes on from there."
            )

    def _export(self, name: str, file: Path, dtype: str) -> None:
        if not file.is_file():
            _command(
                "export", "--run", self.output / "runs" / name, "--output", file, "--dtype", dtype
            )


def in_bf16(source: Path, target: Path) -> Path:
    """Half the size of a VAE's file; its scale and shift, which are compared with those of checkpoints, stay as they are."""
    if not target.is_file():
        autoencoder = load_autoencoder(source)
        for parameter in autoencoder.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        save_autoencoder(target, autoencoder, "tiny VAE of 256 flags, by training.recipes.flags")
    return target


def _pictures(out: Path, name: str) -> tuple[object, ...]:
    folder = out / "pictures" / name
    return "--images", folder, "--metadata", folder / METADATA


def _command(verb: str, *arguments: object) -> None:
    line = ["-m", f"training.{verb}", *map(str, arguments)]
    print(f"python {shlex.join(line)}", flush=True)
    status = subprocess.run([sys.executable, *line]).returncode
    if status:
        raise ValueError(
            f"training.{verb} ended with status {status}, for the reason above. The same command goes on from here."
        )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.recipes.flags", description="Train the bundled checkpoint and VAE."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("runs/flags"),
        help="folder of all that it makes (default: runs/flags)",
    )
    parser.add_argument("--flags", type=int, help="how many flags, for a trial (default: all 256)")
    for name, what in (
        ("vae_steps", "of the VAE"),
        ("decoder_steps", "of its decoder alone, afterwards"),
    ):
        default = Recipe.__dataclass_fields__[name].default
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            default=default,
            help=f"{what} (default: {default})",
        )
    parser.add_argument(
        "--small-steps",
        type=int,
        help="of the training on few tokens (default: as small.yaml says)",
    )
    parser.add_argument(
        "--large-steps",
        type=int,
        help="of the training on 256 tokens (default: as large.yaml says)",
    )
    options, more = parser.parse_known_args(argv)
    return run_command(
        Recipe(**vars(options), options=tuple(more)).run, "The same command goes on from here."
    )


if __name__ == "__main__":
    raise SystemExit(main())

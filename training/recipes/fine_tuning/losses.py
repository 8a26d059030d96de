"""The loss of checkpoints on a latent set that none of them was trained on.

    python -m training.recipes.fine_tuning.losses --latents runs/signs/held-latents \\
        --checkpoints runs/signs/tuned/checkpoints/*/ema-0.95.safetensors
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from comfyui_fitv2.checkpoint import load_checkpoint
from comfyui_fitv2.labels import resolve_class

from ...command_line import parse_options, run_command
from ...data import open_latent_set
from ...train.held_out_loss import held_out_loss, held_out_times


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Options of the command."""

    latents: Path
    """Latent set whose classes the checkpoints have, by name."""
    checkpoints: tuple[Path, ...]
    """Checkpoints to compare."""
    times: int = 8
    """Times at which each image is measured."""


def loss_of(checkpoint: Path, latents: Path, times: int) -> float:
    """The mean loss over all images of a latent set; see ``held_out_loss``.

    Raises ``CheckpointError``, ``LatentSetError``, and ``LabelError`` for a class that the
    checkpoint does not have.
    """
    examples = open_latent_set(latents)
    loaded = load_checkpoint(checkpoint, dtype=torch.float32)
    known = loaded.class_names, loaded.config.num_classes, loaded.class_synonyms
    class_map = [resolve_class(name, *known).id for name in examples.info.class_names]
    probed = held_out_times(times)
    return held_out_loss(loaded.model, examples, class_map, probed, torch.device("cpu"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.recipes.fine_tuning.losses``; returns its status."""

    def command() -> None:
        options = parse_options(
            LossOptions,
            argv,
            prog="python -m training.recipes.fine_tuning.losses",
            description="Compare checkpoints on images that none of them was trained on.",
        )
        for checkpoint in options.checkpoints:
            loss = loss_of(checkpoint, options.latents, options.times)
            print(f"{loss:.4f}  {checkpoint}", flush=True)

    return run_command(command)


if __name__ == "__main__":
    raise SystemExit(main())

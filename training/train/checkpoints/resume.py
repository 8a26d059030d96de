"""Whether a run resumes, from which checkpoint, and whether it would be the same run."""

from __future__ import annotations

import zlib
from pathlib import Path

from ...data.latent_set import LatentSet
from ..config import ConfigError, TrainingConfig, differences
from .reader import checkpoints
from .run_folder import CONFIG, MODEL, stored_config
from .summary import CheckpointSummary


def checkpoint_to_resume(config: TrainingConfig) -> Path | None:
    """The newest checkpoint of the run, or None where the run starts.

    Raises ``ConfigError`` where the folder holds a run that this one would be mixed with.
    """
    run = Path(config.output)
    before, found = stored_config(run), checkpoints(run)
    changed = [] if before is None else differences(before, config)
    if changed and (found or config.resume == "latest"):
        start = f", which may start from this one: --init {_average(found[-1])}" if found else ""
        raise ConfigError(
            f"{run} holds a run with another configuration: {'; '.join(changed)}. Resume with that "
            f"run's own, --config {run / CONFIG}, or name another --output{start}."
        )
    if not found:
        return None
    if config.resume == "no":
        raise ConfigError(
            f"{run} holds a run already, at {found[-1].name}. Resume it with --resume latest, or "
            "name another --output."
        )
    if before is None:
        raise ConfigError(
            f"{run} holds checkpoints, but no {CONFIG} that says what was trained. Name another "
            "--output."
        )
    return found[-1]


def _average(checkpoint: Path) -> Path:
    """A file of weights for --init."""
    return min(checkpoint.glob("ema-*.safetensors"), default=checkpoint / MODEL)


def data_digest(latents: LatentSet) -> dict[str, int]:
    """What identifies a latent set: its number of images, and a checksum of classes and sizes."""
    checksum = zlib.crc32(latents.grids.tobytes(), zlib.crc32(latents.class_ids.tobytes()))
    return {"images": len(latents), "checksum": checksum}


def check_same_data(
    checkpoint: Path, summary: CheckpointSummary, latents: LatentSet, packs_per_step: int
) -> None:
    """Raise ``ConfigError`` where a resumed run would see other images, or other steps."""
    if summary.data != data_digest(latents):
        raise ConfigError(
            f"{checkpoint} was trained on another latent set, of {summary.data['images']} images "
            f"(now: {len(latents)}). Name that set, or another --output."
        )
    if summary.packs_per_step != packs_per_step:
        raise ConfigError(
            f"{checkpoint} was trained with {summary.packs_per_step} packs per step; now the "
            f"number of processes times batch.accumulation is {packs_per_step}. Set "
            "batch.accumulation so that it is the same again."
        )

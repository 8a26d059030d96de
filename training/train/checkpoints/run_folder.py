"""The folder of a run: one configuration, to whose checkpoints only the same one may add."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any

import yaml

from ...data.latent_set import LatentSet
from ..config import ConfigError, TrainingConfig, differences
from .reader import CheckpointError, checkpoints, latest

CONFIG = "config.yaml"


def claim(config: TrainingConfig) -> Path | None:
    """The checkpoint to go on from, or None where the run begins. Raises ``ConfigError`` where the folder holds a run that this one would mix with."""
    run = Path(config.output)
    before = _stored(run)
    found = checkpoints(run)
    if (
        before is not None
        and (different := differences(before, config.to_dict()))
        and (found or config.resume == "latest")
    ):
        raise ConfigError(
            f"{run} holds a run of another configuration: {'; '.join(different)}. Name another --output, or go on with that run's own: {run / CONFIG}."
        )
    if not found:
        return None
    if config.resume == "no":
        raise ConfigError(
            f"{run} holds a run already, at {found[-1].name}. Go on with it by --resume latest, or name another --output."
        )
    if before is None:
        raise ConfigError(
            f"{run} holds checkpoints, but no {CONFIG} that says of what. Name another --output."
        )
    return latest(run)


def store_config(config: TrainingConfig) -> None:
    """Write the resolved configuration, whole or not at all."""
    run = Path(config.output)
    run.mkdir(parents=True, exist_ok=True)
    temporary = run / f".{CONFIG}.{os.getpid()}.tmp"
    try:
        temporary.write_text(
            yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        temporary.replace(run / CONFIG)
    finally:
        temporary.unlink(missing_ok=True)


def fingerprint(latents: LatentSet) -> dict[str, int]:
    """What a run remembers of its data: the number of images, and a checksum of their labels and sizes."""
    return {
        "images": len(latents),
        "checksum": zlib.crc32(latents.grids.tobytes(), zlib.crc32(latents.labels.tobytes())),
    }


def check_same_data(
    checkpoint: Path, summary: dict[str, Any], latents: LatentSet, packs_per_step: int
) -> None:
    """Raise ``ConfigError`` where going on would count other images, or other batches, as the same."""
    if summary["data"] != fingerprint(latents):
        before = summary["data"]["images"]
        raise ConfigError(
            f"{checkpoint} was trained on another latent set, of {before} images (now: {len(latents)}). Name that set, or another --output."
        )
    if summary["packs_per_step"] != packs_per_step:
        raise ConfigError(
            f"{checkpoint} was trained with {summary['packs_per_step']} packs a step; the processes times batch.accumulation are {packs_per_step} now. "
            "Set batch.accumulation so that they are as many again."
        )


def _stored(run: Path) -> dict[str, Any] | None:
    try:
        content = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except yaml.YAMLError as error:
        raise CheckpointError(
            f"{run / CONFIG} is damaged ({' '.join(str(error).split())}). Nothing was changed or removed."
        ) from None
    return content if isinstance(content, dict) else None

"""Whether a run resumes, from which checkpoint, and whether it would be the same run."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path

from ...data.latent_set import LatentSet, data_digest
from ..config import BatchConfig, ConfigError, TrainingConfig, differences
from ..packing import Position, epochs_per_round
from .reader import checkpoints, read_summary
from .run_folder import CONFIG, MODEL, averages, ema_file, find_file, stored_config
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
    """Weights for --init."""
    return min(averages(checkpoint).values(), default=find_file(checkpoint, MODEL))


def summary_to_resume(
    checkpoint: Path, latents: LatentSet, batch: BatchConfig, packs_per_step: int
) -> tuple[CheckpointSummary, str]:
    """The summary from which the run resumes, and what to say of it, if anything.

    Where images of the latent set have changed since the checkpoint, the epoch in progress ends
    there, and the run continues with a new epoch of the present images. Raises
    ``ConfigError`` where it would see another set, or take other steps.
    """
    summary = read_summary(checkpoint)
    if summary.packs_per_step != packs_per_step:
        raise ConfigError(
            f"{checkpoint} was trained with {summary.packs_per_step} packs per step; now the "
            f"number of processes times batch.accumulation is {packs_per_step}. Set "
            "batch.accumulation so that it is the same again."
        )
    if summary.data == data_digest(latents):
        return summary, ""
    changes = latents.changes_since(summary.data)
    if changes is None:
        raise ConfigError(
            f"{checkpoint} was trained on another latent set, of {summary.data['images']} images "
            f"(now: {len(latents)}). Name that set, or another --output."
        )
    if changes.new_classes and not (summary.config.get("lora") or {}).get("rank"):
        newest = find_file(checkpoint, ema_file(summary.config["ema_decays"][0]))
        raise ConfigError(
            f"the latent set has changed since {checkpoint}: {changes}. A model cannot get new "
            f"classes while it is trained. Start another run from this one's weights: --init "
            f"{newest} and another --output."
        )
    said = f"the latent set has changed: {changes}; a new epoch starts with the present images"
    return replace(summary, position=_next_epoch(summary, latents, batch)), said


def _next_epoch(summary: CheckpointSummary, latents: LatentSet, batch: BatchConfig) -> Position:
    """A round of epochs that the run has not begun, so that no random numbers come twice."""
    per_round = epochs_per_round(latents.lengths, batch)
    # How many epochs made a round before follows from the number of images, about.
    share = (summary.config.get("held_out") or {}).get("share", 0.0)
    trained = max(summary.data["images"] * (1 - share), 1)
    before = ceil(per_round * len(latents) / trained) + 1
    return Position(ceil((summary.position.round + 1) * before / per_round))

"""What is odd about a configuration, though it could be meant: for the plan of a run."""

from __future__ import annotations

import numpy as np

from .config import TrainingConfig
from .training_set import TrainingSet

_MANY_EPOCHS = 100
_UNEVEN = 10
"""How many times more images the largest class may have than the smallest."""


def advice(
    config: TrainingConfig, examples: TrainingSet, epochs: float, present_step: int = 0
) -> list[str]:
    """One sentence or two per oddity."""
    notes = [*_data(config, examples, epochs), *_schedule(config)]
    if present_step >= config.steps:
        notes.append(
            f"The run is at step {present_step:,} already, and steps is {config.steps:,}. Give "
            "more --steps."
        )
    return notes


def _data(config: TrainingConfig, examples: TrainingSet, epochs: float) -> list[str]:
    notes, images = [], len(examples.draws)
    if epochs > _MANY_EPOCHS:
        watch = "" if config.held_out.share else " Watch for it with --held-out.share 0.05."
        notes.append(
            f"Each of {images:,} images is seen {epochs:,.0f} times, so the model may memorise "
            f"them. Fewer --steps or more images help.{watch}"
        )
    trained = examples.latents.class_ids[examples.draws.indices]
    counts = np.bincount(trained, minlength=len(examples.latents.info.class_names))
    present = counts[counts > 0]
    if present.max() > _UNEVEN * present.min() and not config.batch.class_balance:
        notes.append(
            f"The largest class has {present.max():,} images, the smallest {present.min():,}. "
            "--batch.class-balance 0.5 draws rare classes more often."
        )
    return notes


def _schedule(config: TrainingConfig) -> list[str]:
    notes, steps = [], config.steps
    if config.optimizer.warmup_steps >= steps:
        notes.append(
            f"The warm-up of {config.optimizer.warmup_steps:,} steps is as long as the run or "
            f"longer, so the learning rate never reaches {config.optimizer.learning_rate:g}. Try "
            f"--optimizer.warmup-steps {max(steps // 20, 1)}."
        )
    for decay in config.ema_decays:
        horizon = 1 / (1 - decay)
        if horizon > steps:
            notes.append(
                f"An average of decay {decay} is made for runs of more than {horizon:,.0f} steps; "
                f"in {steps:,} it acts like one of {(1 + steps) / (10 + steps):.4f}."
            )
    for name, every in (
        ("checkpoints.every", config.checkpoints.every),
        ("samples.every", config.samples.every),
        ("held_out.every", config.held_out.every if config.held_out.share else 0),
    ):
        if every > steps:
            what = {
                "checkpoints.every": "the only checkpoint is that of the end",
                "samples.every": "there is no sample sheet",
                "held_out.every": "the held-out loss is never measured",
            }[name]
            notes.append(f"{name} is {every:,}, more than {steps:,} steps: {what}.")
    return notes

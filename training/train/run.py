"""A training run: built from its configuration, trained step by step, saved, and shown."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from signal import Signals
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from tqdm.auto import tqdm

from comfyui_fitv2.metadata import METADATA_KEY, Metadata

from ..data import open_latent_set
from ..data.latent_set import data_digest
from ..data.node_cache import NodeCache
from ..failures import MachineError, explained
from ..processes import StopSignals, announce_failure
from .accelerator import NO_TRACKER, make_accelerator
from .checkpoints.reader import read_metadata, remove_unfinished
from .checkpoints.resume import checkpoint_to_resume, summary_to_resume
from .checkpoints.run_folder import SAMPLES, step_name, step_of, store_config
from .checkpoints.saver import Saver
from .checkpoints.state import TrainingState
from .checkpoints.summary import CheckpointSummary
from .compilation import compile_blocks
from .config import TrainingConfig, changed_hyperparameters, flat
from .ema import EMA
from .flops import TrainingCost
from .guard import StepGuard
from .held_out import HeldOut
from .initial_model import InitialModel, initial_model, resumed_model
from .model import TrainedFiT
from .monitor import Monitor
from .optimizer import learning_rate, make_optimizers, set_learning_rate
from .packing import check_lengths, next_round
from .page import PAGE
from .sample_sheet import SampleSheet, save_sheet
from .step import training_step
from .training_set import TrainingSet, micro_batches

_LAST_SECONDS = 10
"""After a failure, time in which a checkpoint that is being written may become complete."""


class TrainingRun:
    """A run that is ready for its next step. Unless it ``writes`` it cannot be trained or saved.

    Raises ``ConfigError``, ``LatentSetError`` and ``RunError`` where configuration, data and
    checkpoints do not fit together.
    """

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator | None = None,
        *,
        writes: bool = True,
    ) -> None:
        self.config = config
        self.folder = Path(config.output)
        cache = NodeCache.chosen(config.cache.folder, config.cache.gigabytes)
        self.latents = open_latent_set(config.data, cache)
        check_lengths(self.latents.lengths, config.batch)
        self.accelerator = accelerator or make_accelerator(config)
        checkpoint = checkpoint_to_resume(config)
        summary, self.data_note = None, ""
        if checkpoint:
            summary, self.data_note = summary_to_resume(
                checkpoint, self.latents, config.batch, self.packs_per_step
            )
        self.initial = self._initial_model(checkpoint, summary)
        self.sheet = self._sheet()
        resumed = self.folder if checkpoint else None
        self.held_out = HeldOut.of(self.latents, config.held_out, config.seed, resumed)
        if writes:
            self._open_folder()

        model = self.initial.model
        optimizers = make_optimizers(_trained(model), config.optimizer)
        self.model, *self.optimizers = self.accelerator.prepare(model, *optimizers)
        self.state = self._state()
        if config.compile:
            compile_blocks(self.state.model, self.accelerator.device)
        self.changed: list[str] = []
        """Options that differ from those of the checkpoint, where the run resumes."""
        if checkpoint and summary:
            self.state.restore(checkpoint, summary, self.accelerator.is_main_process)
        self.examples = TrainingSet(
            self.latents,
            model.config,
            config.flow,
            config.batch,
            config.seed,
            self.initial.class_map,
            self.held_out.indices if self.held_out else None,
        )
        if summary:
            self._apply_changes(summary)
        self.saver = Saver(
            self.folder,
            self.state,
            self.accelerator,
            config.checkpoints.keep,
            self._also_kept,
        )
        self.monitor: Monitor | None = None
        self.batches = micro_batches(
            self.examples,
            self.state.position,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.accelerator.device,
        )

    @property
    def packs_per_step(self) -> int:
        return self.accelerator.num_processes * self.config.batch.accumulation

    def train(self) -> Signals | None:
        """Take the steps that are left.

        Returns the signal that stopped the run early, after it has saved.
        """
        config, state = self.config, self.state
        if state.step >= config.steps:
            self._say_that_nothing_is_left()
            self.accelerator.end_training()
            return None
        monitor = self.monitor = self._monitor()
        try:
            with StopSignals() as stop:
                while state.step < config.steps:
                    rate = learning_rate(state.step, config.steps, config.optimizer)
                    set_learning_rate(self.optimizers, rate)
                    with monitor.waiting():
                        batches = list(islice(self.batches, config.batch.accumulation))
                    result = training_step(
                        self.accelerator,
                        self.model,
                        self.optimizers,
                        batches,
                        config.optimizer.gradient_clip,
                        state.guard,
                    )
                    totals = batches[-1].step
                    state.advance(totals, result)
                    monitor.step(totals, result, rate)
                    with monitor.pause():
                        if self.held_out and state.step % config.held_out.every == 0:
                            monitor.held_out(self.held_out_loss(self.held_out))
                        if self.sheet and state.step % config.samples.every == 0:
                            self.render_sheet(self.sheet)
                        stopped = stop.agreed(self.accelerator)
                        if stopped or self._save_is_due():
                            self.save()
                        self.saver.look()
                        if stopped or state.step == config.steps:
                            self.saver.wait()
                    if stopped:
                        monitor.say(
                            f"stopped by {stopped.name} at step {state.step}, and saved. "
                            "Resume with --resume latest."
                        )
                        monitor.show(f"stopped at step {state.step:,}", running=False)
                        return stopped
            monitor.finished()
        except BaseException:
            announce_failure()  # before the clean-up, which disconnects the other processes
            raise
        finally:
            self.batches.close()
            self.saver.abandon(_LAST_SECONDS)
            monitor.close()
            self.accelerator.end_training()
        return None

    def save(self) -> None:
        """Write a checkpoint of the present step, or begin to; see ``Saver``.

        Every process must call it. Raises ``RunError`` in all of them if it cannot be written, or
        if the one before could not.
        """
        self.saver.save(self._summary(), self._metadata())

    def _also_kept(self) -> set[int]:
        """Steps whose checkpoints stay, besides the newest."""
        best = self.monitor.best_checkpoint() if self.monitor else None
        return {*self.config.checkpoints.milestones, *([step_of(best)] if best else [])}

    def held_out_loss(self, held_out: HeldOut) -> float:
        """The loss of the first moving average on held-out images, on the main process.

        Sharded weights need every process for it; where they are whole, the others give NaN.
        """
        accelerator, decay, loss = self.accelerator, self.config.ema_decays[0], math.nan
        if accelerator.is_main_process or accelerator.distributed_type == DistributedType.FSDP:
            with self.state.ema.in_place(decay):
                loss = held_out.loss(self.state.model, self.initial.class_map, self.config.flow)
        accelerator.wait_for_everyone()
        return loss

    def render_sheet(self, sheet: SampleSheet) -> None:
        """Render with the first moving average; sharded weights need every process for it."""
        accelerator, decay, step = self.accelerator, self.config.ema_decays[0], self.state.step
        if accelerator.is_main_process or accelerator.distributed_type == DistributedType.FSDP:
            try:
                self._write_sheet(sheet, decay, step)
            except OSError as error:
                sharded = accelerator.distributed_type == DistributedType.FSDP
                if sharded and isinstance(error, MachineError):
                    raise  # the other processes still render
                tqdm.write(f"no sample sheet of step {step}: {error}")  # no reason to lose the run
        accelerator.wait_for_everyone()

    def _write_sheet(self, sheet: SampleSheet, decay: float, step: int) -> None:
        """Render the sheet; the main process writes it. Raises ``OSError`` where that fails."""
        title = (
            f"step {step:,} · average of decay {decay} · "
            f"guidance {self.config.samples.guidance_scale}"
        )
        with (
            explained("Lower samples.classes, or name smaller samples.sizes."),
            self.state.ema.in_place(decay),
        ):
            image = sheet.render(self.state.model, title)
        if self.accelerator.is_main_process:
            path = self.folder / SAMPLES / f"{step_name(step)}.png"
            save_sheet(image, path, self.accelerator.trackers, step)

    def _summary(self) -> CheckpointSummary:
        """The summary of the present step. Every process must ask, as the loss is summed."""
        state, loss = self.state, None
        if state.loss is not None:
            loss = float(cast(torch.Tensor, self.accelerator.reduce(state.loss, "sum")))
        return CheckpointSummary(
            step=state.step,
            skipped=state.skipped,
            images=state.images,
            tokens=state.tokens,
            epoch=state.images // len(self.examples.draws),
            loss=loss,
            ema_updates=state.ema.updates,
            position=state.position,
            class_map=tuple(self.initial.class_map.tolist()),
            packs_per_step=self.packs_per_step,
            data=data_digest(self.latents),
            config=self.config.to_dict(),
        )

    def _metadata(self) -> dict[str, str]:
        """The metadata of the weights files, with which they load by themselves."""
        metadata = Metadata(
            self.initial.model.config,
            self.initial.class_names,
            self.latents.info.latent_format,
            {"step": self.state.step, **self.latents.info.vae_of_checkpoint},
            self.initial.class_synonyms,
        )
        return {"format": "pt", METADATA_KEY: metadata.to_json()}

    def _save_is_due(self) -> bool:
        step, checkpoints = self.state.step, self.config.checkpoints
        regular = checkpoints.every and step % checkpoints.every == 0
        last = step == self.config.steps
        return bool(regular or last or step in checkpoints.milestones)

    def _initial_model(
        self, checkpoint: Path | None, summary: CheckpointSummary | None
    ) -> InitialModel:
        if checkpoint is None or summary is None:
            return initial_model(self.config, self.latents.info)
        metadata = read_metadata(checkpoint)
        return resumed_model(self.config, metadata, summary.class_map, self.latents.info)

    def _apply_changes(self, summary: CheckpointSummary) -> None:
        """Fit what was restored to the options that are not those of the checkpoint."""
        self.changed = changed_hyperparameters(summary.config, self.config)
        if self.changed:
            self.state.guard.forget_skipped()
        now, before = self.config.batch, summary.config.get("batch", {})
        known = {f.name: before[f.name] for f in fields(now) if f.name in before}
        lengths, position = self.examples.draws.drawn_lengths, self.state.position
        moved = next_round(position, lengths, replace(now, **known), now)
        # Where the images changed too, the position is the start of a round of the present packs.
        is_later = not self.data_note or moved.round > position.round
        self.state.position = moved if is_later else position

    def _sheet(self) -> SampleSheet | None:
        if not self.config.samples.every or self.initial.model.flow.predicts_noise:
            return None
        return SampleSheet(
            self.config.samples,
            self.latents.info,
            self.initial.class_names,
            self.initial.class_map,
            self.accelerator.device,
        )

    def _open_folder(self) -> None:
        """Prepare the folder, after every process has seen what is in it."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            remove_unfinished(self.folder)
            store_config(self.config)
            if self.held_out:
                self.held_out.store(self.folder)
        if self.config.logging.tracker != NO_TRACKER:
            values = {
                key: value if isinstance(value, bool | int | float | str) else str(value)
                for key, value in flat(self.config.to_dict()).items()
            }
            self.accelerator.init_trackers(self.config.logging.project, values)

    def _state(self) -> TrainingState:
        model = cast(TrainedFiT, self.accelerator.unwrap_model(self.model))
        ema = EMA(_trained(model), self.config.ema_decays)
        # PyTorch's own optimizers, without accelerate's wrapper: what their state is asked of.
        optimizers = [optimizer.optimizer for optimizer in self.optimizers]
        return TrainingState(model, optimizers, ema, StepGuard(self.config.guard), self.config.lora)

    def _monitor(self) -> Monitor:
        config, model = self.config, self.state.model
        cost = TrainingCost.of(model, model.config.hidden_size, model.config.depth)
        per_epoch, classes = len(self.examples.draws), len(self.latents.info.class_names)
        images = f"{per_epoch:,} images of {classes} classes"
        if self.held_out:
            images += f", and {len(self.held_out.indices):,} held out"
        if config.batch.class_balance:
            images += f", class balance {config.batch.class_balance:g}"
        notes = self.initial.notes
        monitor = Monitor(self.accelerator, self.state, cost, config, per_epoch, images, notes)
        packs = self.packs_per_step
        monitor.say(f"{images}, {packs} pack{'s' * (packs > 1)} per step")
        for note in notes:
            monitor.say(note)
        if config.samples.every and self.sheet is None:
            monitor.say("no sample sheets: sample a model that predicts noise in ComfyUI")
        if config.held_out.share and self.held_out is None:
            monitor.say("no image is held out: no class can spare one")
        if self.state.step:
            changed = f", with {'; '.join(self.changed)}" if self.changed else ""
            monitor.say(f"resumes at step {self.state.step}{changed}")
        for note in filter(None, (self.data_note, self.latents.note)):
            monitor.say(note)
        monitor.say(f"open {self.folder / PAGE} in a browser to watch it")
        monitor.show("starting", running=True)
        return monitor

    def _say_that_nothing_is_left(self) -> None:
        if self.accelerator.is_main_process:
            print(
                f"Nothing is left to train: {self.folder} is at step {self.state.step:,}, and "
                f"--steps is {self.config.steps:,}. To train on, give more --steps."
            )


def _trained(model: TrainedFiT) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}

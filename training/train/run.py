"""A training run: made from its configuration, taken step by step, saved, looked at."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from signal import Signals
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType
from tqdm.auto import tqdm

from ..data.latent_set import LatentSet
from ..processes import StopSignals
from .accelerator import NO_TRACKER, make_accelerator
from .batches import Images, micro_batches
from .checkpoints.reader import prune, read_summary, remove_unfinished
from .checkpoints.run_folder import check_same_data, claim, fingerprint, store_config
from .checkpoints.state import TrainingState, metadata_of
from .checkpoints.writer import ENGINE, write_checkpoint
from .config import TrainingConfig, flat
from .ema import EMA
from .flops import TrainingCost
from .initial_model import resumed_start, start_of
from .monitor import Monitor
from .optimizer import StepGuard, learning_rate, make_optimizer, set_learning_rate
from .packing import check_lengths
from .sample_sheet import SampleSheet, save_sheet
from .step import training_step


class Run:
    """Raises ``ConfigError``, ``LatentSetError`` and ``CheckpointError`` where configuration, data and checkpoints do not fit together."""

    def __init__(self, config: TrainingConfig, accelerator: Accelerator | None = None) -> None:
        self.config = config
        self.folder = Path(config.output)
        self.latents = LatentSet.open(config.data)
        check_lengths(self.latents.grids.prod(axis=-1), config.batch)
        self.accelerator = accelerator or make_accelerator(config)
        checkpoint = claim(config)
        summary = read_summary(checkpoint) if checkpoint else None
        if checkpoint and summary:
            check_same_data(checkpoint, summary, self.latents, self.packs_per_step)
        self.start = (
            resumed_start(config, summary, self.latents.info)
            if summary
            else start_of(config, self.latents.info)
        )
        self.sheet = self._sheet()
        self._open_folder()

        model = self.start.model
        optimizer = make_optimizer(
            {name: p for name, p in model.named_parameters() if p.requires_grad}, config.optimizer
        )
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.state = self._state()
        if checkpoint and summary:
            self.state.restore(checkpoint, summary)
            if self.engine is not None:
                self.engine.load_checkpoint(str(checkpoint / ENGINE))
        images = Images(
            self.latents, model.config, config.flow, config.batch, config.seed, self.start.labels
        )
        self.batches = micro_batches(
            images,
            self.state.position,
            self.accelerator.process_index,
            self.accelerator.num_processes,
            self.accelerator.device,
        )

    @property
    def packs_per_step(self) -> int:
        return self.accelerator.num_processes * self.config.batch.accumulation

    @property
    def engine(self) -> Any:
        """DeepSpeed's, which keeps the optimizer; else None."""
        return (
            self.model if self.accelerator.distributed_type == DistributedType.DEEPSPEED else None
        )

    def train(self) -> Signals | None:
        """Take the steps that are left. Returns the signal that stopped the run before the last, after saving."""
        config, state = self.config, self.state
        monitor = self._monitor()
        try:
            with StopSignals() as stop:
                while state.step < config.steps:
                    rate = learning_rate(state.step, config.steps, config.optimizer)
                    set_learning_rate(self.optimizer, rate)
                    with monitor.waiting():
                        batches = list(islice(self.batches, config.batch.accumulation))
                    result = training_step(
                        self.accelerator,
                        self.model,
                        self.optimizer,
                        batches,
                        config.optimizer.gradient_clip,
                        state.guard,
                    )
                    state.advance(batches[-1].step, result.taken)
                    monitor.step(batches[-1].step, result, rate)
                    with monitor.pause():
                        if self.sheet and state.step % config.samples.every == 0:
                            self.draw_sheet(self.sheet)
                        stopped = stop.agreed(self.accelerator)
                        if stopped or self._save_is_due():
                            self.save()
                    if stopped:
                        monitor.say(
                            f"stopped by {stopped.name} at step {state.step}, and saved. Go on by --resume latest."
                        )
                        return stopped
        finally:
            monitor.close()
            self.accelerator.end_training()
        return None

    def save(self) -> None:
        """Write a checkpoint of the present step, and remove those that need not stay. Raises ``CheckpointError``."""
        info = self.latents.info
        fit = self.start.model.config
        summary = {
            **self.state.counters(),
            "epoch": self.state.images // len(self.latents),
            **self.start.summary(),
            "latent_format": info.latent_format,
            "packs_per_step": self.packs_per_step,
            "data": fingerprint(self.latents),
            "config": self.config.to_dict(),
        }
        metadata = metadata_of(fit, self.start.class_names, info.latent_format, self.state.step)
        write_checkpoint(self.accelerator, self.state, self.folder, summary, metadata, self.engine)
        if self.accelerator.is_main_process:
            prune(self.folder, self.config.checkpoints.keep, self.config.checkpoints.milestones)

    def draw_sheet(self, sheet: SampleSheet) -> None:
        """Draw with the first moving average; sharded weights need every process for it."""
        accelerator, decay, step = self.accelerator, self.config.ema_decays[0], self.state.step
        if accelerator.is_main_process or accelerator.distributed_type == DistributedType.FSDP:
            with self.state.ema.in_place(decay):
                drawn = sheet.draw(
                    self.state.model,
                    f"step {step:,} · average of decay {decay} · guidance {self.config.samples.cfg_scale}",
                )
            if accelerator.is_main_process:
                try:
                    save_sheet(
                        drawn,
                        self.folder / "samples" / f"step-{step:08d}.png",
                        accelerator.trackers,
                        step,
                    )
                except (
                    OSError
                ) as error:  # no reason to lose the run, or to keep the other processes waiting
                    tqdm.write(
                        f"the sample sheet of step {step} could not be written ({error}); training goes on"
                    )
        accelerator.wait_for_everyone()

    def _save_is_due(self) -> bool:
        step, checkpoints = self.state.step, self.config.checkpoints
        return (
            step % checkpoints.every == 0
            or step in checkpoints.milestones
            or step == self.config.steps
        )

    def _sheet(self) -> SampleSheet | None:
        if not self.config.samples.every:
            return None
        if self.start.model.config.prediction != "velocity":
            self.start.report.append(
                "draws no sample sheets: a model that predicts noise is sampled in ComfyUI"
            )
            return None
        return SampleSheet(
            self.config.samples, self.latents.info, self.start.class_names, self.accelerator.device
        )

    def _open_folder(self) -> None:
        """After every process has seen what is in it."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            remove_unfinished(self.folder)
            store_config(self.config)
        if self.config.logging.tracker != NO_TRACKER:
            values = {
                key: value if isinstance(value, bool | int | float | str) else str(value)
                for key, value in flat(self.config.to_dict()).items()
            }
            self.accelerator.init_trackers(self.config.logging.project, values)

    def _state(self) -> TrainingState:
        model: Any = self.accelerator.unwrap_model(self.model)
        ema = EMA(
            {name: p for name, p in model.named_parameters() if p.requires_grad},
            self.config.ema_decays,
        )
        return TrainingState(
            model,
            None if self.engine else self.optimizer,
            ema,
            StepGuard(self.config.guard),
            self.config.lora,
        )

    def _monitor(self) -> Monitor:
        logging, model = self.config.logging, self.state.model
        cost = TrainingCost.of(model, model.config.hidden_size, model.config.depth)
        monitor = Monitor(
            self.accelerator, self.state, cost, self.config.steps, len(self.latents), logging
        )
        counts = f"{len(self.latents):,} images of {len(self.latents.info.class_names)} classes, {self.packs_per_step} packs a step"
        for line in (
            counts,
            *self.start.report,
            *([f"goes on at step {self.state.step}"] if self.state.step else []),
        ):
            monitor.say(line)
        return monitor

"""What is shown of a run while it runs: a progress bar, numbers for the tracker, and the page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from ..command_line import to_type
from .checkpoints.reader import checkpoints
from .checkpoints.run_folder import step_of
from .checkpoints.state import TrainingState
from .config import TrainingConfig
from .flops import TrainingCost, matmul_rate
from .history import History
from .overfitting import Measurement, best, overfits_since
from .packing import StepTotals
from .page import PAGE, RELOAD_SECONDS, RunView, write_page
from .step import StepResult

_EARLY = (1, 2, 5)
"""Steps of a process after which the bar shows figures, however rarely it logs."""


class Monitor:
    """Adds up steps, and logs every ``logging.every`` of them. It changes nothing in the run.

    Throughput is that of all processes together, utilisation their mean. ``images`` says in words
    what is trained on. The main process writes history and page into the folder of the run.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        state: TrainingState,
        cost: TrainingCost,
        config: TrainingConfig,
        images_per_epoch: int,
        images: str,
        notes: Sequence[str],
    ) -> None:
        self.accelerator = accelerator
        self.state = state
        self.cost = cost
        self.config = config
        self.images_per_epoch = images_per_epoch
        self.images, self.notes = images, notes
        self.folder = Path(config.output)
        self.rate = (
            matmul_rate(accelerator.device) * accelerator.num_processes
            if config.logging.utilisation
            else None
        )
        self.bar = tqdm(
            total=config.steps,
            initial=state.step,
            unit="step",
            disable=not accelerator.is_main_process,
            dynamic_ncols=True,
        )
        self.history = History(self.folder, state.step) if accelerator.is_main_process else None
        self._first, self._began = state.step, time.perf_counter()
        self._page_written, self._running = 0.0, False
        self._told: Measurement | None = None
        self._problem = ""
        self._restart()

    def _restart(self) -> None:
        self._started = time.perf_counter()
        self._paused = self._waited = 0.0
        self._taken = self._images = self._tokens = self._slots = self._flops = 0
        self._loss: Tensor | None = None

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time within does not count as training: checkpoints and sample sheets."""
        start = time.perf_counter()
        yield
        self._paused += time.perf_counter() - start

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time within is spent waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def step(self, totals: StepTotals, result: StepResult, learning_rate: float) -> None:
        """Count a step, which the state has counted already, and log if it is time."""
        self._images += totals.images
        self._tokens += totals.tokens
        self._slots += totals.slots
        self._flops += self.cost.flops(totals)
        if result.taken:
            self._taken += 1
            self._loss = result.loss if self._loss is None else self._loss + result.loss
        self.bar.update()
        due = self.state.step % self.config.logging.every == 0 or not self._left
        if due or self.state.step - self._first in _EARLY:
            numbers = self._numbers(result, learning_rate)
            self.bar.set_postfix_str(_in_short(numbers, self._held_out_loss))
            if due:
                self.accelerator.log(numbers, step=self.state.step)
                self._record(numbers)
                self._restart()
        if time.perf_counter() - self._page_written > RELOAD_SECONDS:
            self.show("training", running=True)

    def held_out(self, loss: float) -> None:
        """Record the held-out loss of the present step, and say once if the run overfits.

        Every process must call it, as the training loss is summed over all.
        """
        numbers, training = {"held_out_loss": loss}, self._training_loss()
        if training is not None:
            numbers["training_loss"] = training
        self.accelerator.log(numbers, step=self.state.step)
        self._record(numbers)
        since = overfits_since(self.history.measurements) if self.history else None
        if since is not None and since != self._told:
            self.say(self._overfitting(since, numbers))
        self._told = since

    def best_checkpoint(self) -> Path | None:
        """The checkpoint on the disk with the lowest held-out loss, where that was measured."""
        losses = {m.step: m.held_out for m in self.history.measurements} if self.history else {}
        measured = [path for path in checkpoints(self.folder) if step_of(path) in losses]
        return min(measured, key=lambda path: losses[step_of(path)], default=None)

    def finished(self) -> None:
        """Say how a complete run ended, and what to do with it. Every process must call it."""
        self.bar.close()
        loss, lowest = (
            self._training_loss(),
            best(self.history.measurements if self.history else ()),
        )
        words = [] if loss is None else [f"loss {loss:.4f}"]
        if lowest is not None:
            words.append(f"held-out loss {self._held_out_loss:.4f}")
            words.append(f"lowest {lowest.held_out:.4f} at step {lowest.step:,}")
        steps = f"{self.state.step:,} step{'s' * (self.state.step > 1)}"
        self.say(f"trained {steps}: {', '.join(words) or 'none was usable'}")
        for newest in checkpoints(self.folder)[-1:]:
            self.say(f"checkpoint: {newest}")
        self.say(f"export it:  {self.export_command()}")
        self.show(f"finished at step {self.state.step:,}", running=False)

    def export_command(self, step: int | None = None) -> str:
        """The command that exports the newest checkpoint, or that of a ``step``."""
        output = f"{self.folder.resolve().name}.safetensors"
        words = ["--run", str(self.folder), "--output", output]
        words += ["--step", str(step)] if step is not None else []
        words += ["--weights", "lora"] if self.config.lora.rank else []
        return f"python -m training.export {to_type(words)}"

    def say(self, text: str) -> None:
        """Print a line above the progress bar, once for all processes."""
        if self.accelerator.is_main_process:
            self.bar.write(text)

    def show(self, state: str, *, running: bool) -> None:
        """Write the page. A page that cannot be written is no reason to lose the run."""
        if self.history is None:
            return
        self._page_written, self._running = time.perf_counter(), running
        done = self.state.step - self._first
        left = (self._page_written - self._began) / done * self._left if done else None
        view = RunView(
            folder=self.folder,
            state=state,
            running=running,
            step=self.state.step,
            steps=self.config.steps,
            seconds_left=left,
            images=self.images,
            notes=self.notes,
            configuration=yaml.safe_dump(
                self.config.to_dict(), sort_keys=False, allow_unicode=True
            ),
            exports=self._exports(),
        )
        try:
            write_page(view, self.history)
        except OSError as error:
            self._complain(f"cannot write {self.folder / PAGE} ({error})")

    def close(self) -> None:
        if self._running:
            self.show(f"ended by an error at step {self.state.step:,}", running=False)
        self.bar.close()

    def _training_loss(self) -> float | None:
        """The mean loss of recent steps. Every process must ask, as it is summed over all."""
        if self.state.loss is None:
            return None
        loss: Any = self.accelerator.reduce(self.state.loss, "sum")
        return float(loss)

    @property
    def _left(self) -> int:
        return max(self.config.steps - self.state.step, 0)

    @property
    def _held_out_loss(self) -> float | None:
        return self.history.last.get("held_out_loss") if self.history else None

    def _exports(self) -> list[tuple[str, str]]:
        exports, best = [("The newest checkpoint", self.export_command())], self.best_checkpoint()
        if best is not None:
            command = self.export_command(step_of(best))
            exports.append((f"The lowest held-out loss, at step {step_of(best):,}", command))
        return exports

    def _record(self, numbers: dict[str, float]) -> None:
        if self.history is not None:
            self.history.add(self.state.step, numbers)
            self._complain(self.history.problem)

    def _complain(self, problem: str) -> None:
        """Say once that something cannot be written."""
        if problem and not self._problem:
            self.say(problem)
        self._problem = problem or self._problem

    def _overfitting(self, since: Measurement, numbers: dict[str, float]) -> str:
        kept = self.best_checkpoint()
        advice = (
            f"The best checkpoint is kept: {self.export_command(step_of(kept))}"
            if kept is not None
            else "No checkpoint was written yet; Ctrl-C writes one."
        )
        return (
            f"overfits since step {since.step:,}: the held-out loss was {since.held_out:.4f} there "
            f"and is {numbers['held_out_loss']:.4f}, while the training loss fell from "
            f"{since.training:.4f} to {numbers['training_loss']:.4f}. More steps will not help; "
            f"more images would. {advice}"
        )

    def _numbers(self, result: StepResult, learning_rate: float) -> dict[str, float]:
        """Means since the last entry. Every process must ask, as the loss is summed over all."""
        seconds = max(time.perf_counter() - self._started - self._paused, 1e-9)
        numbers: dict[str, float] = {
            "learning_rate": learning_rate,
            "gradient_norm": result.gradient_norm,
            "tokens_per_second": self._tokens / seconds,
            "images_per_second": self._images / seconds,
            "packed": self._tokens / self._slots,
            "data_wait": self._waited / seconds,
            "epoch": self.state.images / self.images_per_epoch,
            "skipped_steps": self.state.skipped,
        }
        if self._loss is not None:
            loss: Any = self.accelerator.reduce(self._loss, "sum")
            numbers["loss"] = float(loss) / self._taken
        if self.rate is not None:
            numbers["utilisation"] = self._flops / seconds / self.rate
        if self.accelerator.device.type == "cuda":
            numbers["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return numbers


def _in_short(numbers: dict[str, float], held_out: float | None) -> str:
    parts = [
        f"loss {numbers['loss']:.4f}" if "loss" in numbers else "",
        f"held-out {held_out:.4f}" if held_out is not None else "",
        f"epoch {numbers['epoch']:,.1f}",
        f"{numbers['tokens_per_second']:,.0f} tokens/s",
        f"{numbers['images_per_second']:,.1f} images/s",
        f"learning rate {numbers['learning_rate']:.2g}",
        f"{numbers['utilisation']:.0%} of peak speed" if "utilisation" in numbers else "",
        f"{1 - numbers['packed']:.0%} padding" if numbers["packed"] < 0.995 else "",
        f"{numbers['skipped_steps']:.0f} skipped" if numbers["skipped_steps"] else "",
    ]
    return ", ".join(part for part in parts if part)

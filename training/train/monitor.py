"""What is shown of a run while it runs: a progress bar, and numbers for the tracker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from .checkpoints.state import TrainingState
from .config import LoggingConfig
from .flops import TrainingCost, matmul_rate
from .packing import StepTotals
from .step import StepResult


class Monitor:
    """Adds up steps, and logs every ``config.every`` of them. It changes nothing in the run.

    Throughput is that of all processes together, utilisation their mean.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        state: TrainingState,
        cost: TrainingCost,
        steps: int,
        images_per_epoch: int,
        config: LoggingConfig,
    ) -> None:
        self.accelerator = accelerator
        self.state = state
        self.cost = cost
        self.images_per_epoch = images_per_epoch
        self.every = config.every
        self.rate = (
            matmul_rate(accelerator.device) * accelerator.num_processes
            if config.utilisation
            else None
        )
        self.bar = tqdm(
            total=steps,
            initial=state.step,
            unit="step",
            disable=not accelerator.is_main_process,
            dynamic_ncols=True,
        )
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
        if self.state.step % self.every == 0:
            numbers = self._numbers(result, learning_rate)
            self.accelerator.log(numbers, step=self.state.step)
            self.bar.set_postfix_str(_in_short(numbers))
            self._restart()

    def say(self, text: str) -> None:
        """Print a line above the progress bar, once for all processes."""
        if self.accelerator.is_main_process:
            self.bar.write(text)

    def close(self) -> None:
        self.bar.close()

    def _numbers(self, result: StepResult, learning_rate: float) -> dict[str, float]:
        """Means since the last entry. Every process must ask, as the loss is summed over all."""
        seconds = max(time.perf_counter() - self._started - self._paused, 1e-9)
        numbers: dict[str, float] = {
            "learning_rate": learning_rate,
            "gradient_norm": result.gradient_norm,
            "tokens_per_second": self._tokens / seconds,
            "images_per_second": self._images / seconds,
            "fill": self._tokens / self._slots,
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


def _in_short(numbers: dict[str, float]) -> str:
    parts = [
        f"loss {numbers['loss']:.4f}" if "loss" in numbers else "",
        f"lr {numbers['learning_rate']:.2g}",
        f"{numbers['tokens_per_second']:,.0f} tokens/s",
        f"{numbers['images_per_second']:,.1f} images/s",
        f"fill {numbers['fill']:.0%}",
        f"MFU {numbers['utilisation']:.0%}" if "utilisation" in numbers else "",
        f"{numbers['skipped_steps']:.0f} skipped" if numbers["skipped_steps"] else "",
    ]
    return ", ".join(part for part in parts if part)

"""Stopping a run from outside without losing a step."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 0}
"""Of a run that was stopped so and has saved: an interrupted command by custom, and an orderly end."""


class StopSignals:
    """Remembers Ctrl-C and SIGTERM until the step is done; a second Ctrl-C stops at once, without saving."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in EXIT_STATUS:
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> signal.Signals | None:
        """The signal that any process was sent; every process must ask after the same step."""
        if accelerator.num_processes == 1:
            return self.received
        numbers: Any = accelerator.gather(
            torch.tensor([int(self.received or 0)], device=accelerator.device)
        )
        number = int(numbers.max())
        return signal.Signals(number) if number else None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

"""The processes that share a command's work: how they find each other and how they stop.

A command runs in one process, or in as many as ``accelerate launch`` or ``torchrun`` started. Each
of them may start data workers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import parent_process
from threading import Thread
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 0}
"""Exit status after saving: 130 for Ctrl-C (shell convention), 0 for SIGTERM."""
_TIMEOUT = timedelta(days=7)
"""Longer than the other processes ever wait for one that works alone."""


def find_device(name: str | None) -> torch.device:
    """The device called ``name``; without one, the accelerator if there is one, else the CPU.

    Raises ``ValueError`` for a name that torch does not know and a device that is not there.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name is None:
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        if device.type != "meta":
            torch.empty(1, device=device)
            return device
    except (RuntimeError, AssertionError, ImportError):  # each backend has its own
        pass
    found = f"cpu and {accelerator.type}" if accelerator else "cpu"
    raise ValueError(
        f"--device {name} cannot be used: PyTorch {torch.__version__} finds {found} here."
    )


def join_processes(device: str | None) -> PartialState:
    """Connect to the other processes. ``device`` is the user's choice; None chooses one.

    Raises ``ValueError`` where the device cannot be used, and where other processes were started
    but cannot be reached, because each would then do all of the work.
    """
    if device is not None:
        find_device(device)
    # Without cpu=True, processes on machines without a GPU would not know of each other.
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu, timeout=_TIMEOUT)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != state.num_processes:
        raise ValueError(
            f"{started} processes were started, and they cannot share work on {state.device}. "
            "Start one, or add --device cpu."
        )
    return state


def on_main(state: PartialState, action: Callable[[], None]) -> None:
    """Run ``action`` on the main process while the others wait; if it fails, they exit with 1."""
    error: Exception | None = None
    if state.is_main_process:
        try:
            action()
        except (ValueError, OSError) as failure:
            error = failure
    failed = state.num_processes > 1 and broadcast_object_list([error is not None])[0]
    if failed and error is None:
        raise SystemExit(1)  # the main process prints why
    if error is not None:
        raise error


class StopSignals:
    """A context in which Ctrl-C and SIGTERM are remembered until the step is complete.

    A second Ctrl-C raises ``KeyboardInterrupt`` at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in EXIT_STATUS:
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> signal.Signals | None:
        """The signal that any process received, or None. All processes must call this together."""
        if accelerator.num_processes == 1:
            return self.received
        own = torch.tensor([int(self.received or 0)], device=accelerator.device)
        numbers: Any = accelerator.gather(own)
        number = int(numbers.max())
        return signal.Signals(number) if number else None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)


def leave_signals_to_the_run(_worker: int = 0) -> None:
    """Make a data worker ignore Ctrl-C and SIGTERM.

    If the workers stopped, the run could not finish its step and save.
    """
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)


def exit_with_parent(_worker: int = 0) -> None:
    """Make a data worker exit with its parent: an orphaned one would block forever on its queue."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()

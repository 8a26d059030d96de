"""The processes that share a command's work: one, or as many as ``accelerate launch`` or ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

_WAIT = timedelta(days=7)
"""Longer than any process works while others wait for it."""


def join_processes(device: str | None) -> PartialState:
    """This process among the others. ``device`` is the person's choice of one. Raises ``ValueError`` where others were started but cannot be reached,
    since each would then do all of the work."""
    # Without this, processes on machines that have CPUs only would not know of each other.
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu, timeout=_WAIT)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != state.num_processes:
        raise ValueError(
            f"{started} processes were started, and they cannot share work on {state.device}. Start one, or add --device cpu."
        )
    return state


def on_main(state: PartialState, action: Callable[[], None]) -> None:
    """``action`` on the main process while the others wait; where it fails there, they end too."""
    error: Exception | None = None
    if state.is_main_process:
        try:
            action()
        except (ValueError, OSError) as failure:
            error = failure
    if state.num_processes > 1 and broadcast_object_list([error is not None])[0] and error is None:
        raise SystemExit(1)  # the main process says why
    if error is not None:
        raise error

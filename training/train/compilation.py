"""Blocks compiled by ``torch.compile``, for training."""

from __future__ import annotations

import torch
from torch import nn

from .config import ConfigError
from .model import TrainedFiT

BACKEND = "inductor"


def compile_blocks(model: TrainedFiT, device: torch.device) -> None:
    """Have each block of ``model`` compiled when training first runs it; its keys stay the same.

    All blocks share their graphs, in which the numbers of tokens and images are variables. Raises
    ``ConfigError`` where nothing can be compiled for ``device``.
    """
    _try_compiler(device)
    for block in model.blocks:
        assert isinstance(block, nn.Module)
        block.compile(dynamic=True, backend=BACKEND)
    model.compiled = True


def _try_compiler(device: torch.device) -> None:
    """Compile something small. A failure while training would come late, and in many lines."""
    try:
        torch.compile(_trial, dynamic=True)(torch.ones(2, 3, device=device))
    except (RuntimeError, ImportError) as error:
        # From the innermost error on, as PyTorch wraps it in others.
        while error.__cause__ is not None:
            error = error.__cause__
        needed = "a C++ compiler, such as g++" if device.type == "cpu" else "Triton and gcc"
        raise ConfigError(
            f"compile: PyTorch cannot compile for {device.type} here "
            f"({str(error).strip().partition(chr(10))[0]}). It needs {needed}. Install it, or "
            "train with --no-compile."
        ) from None


def _trial(x: torch.Tensor) -> torch.Tensor:
    return (x + 1).sin().sum(-1)

"""One optimizer step, on any number of processes: the same numbers however the batch is cut.

A token's weight in the loss comes from the totals of the whole step, so the loss is the sum over
micro-batches and processes, and no mean over parts of different size is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from comfyui_fitv2.flow import token_errors

from .guard import StepGuard
from .training_set import MicroBatch


@dataclass(frozen=True, slots=True)
class StepResult:
    """What happened in a step."""

    loss: Tensor
    """This process's part of the loss; the sum over processes is the loss."""
    gradient_norm: float
    """Global gradient norm before clipping."""
    taken: bool
    """Whether the weights were changed."""


def training_loss(model: nn.Module, batch: MicroBatch) -> Tensor:
    """The micro-batch's part of the step's loss."""
    return (token_errors(model(batch), batch.target) * batch.weights).sum()


def training_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    batches: Sequence[MicroBatch],
    clip: float,
    guard: StepGuard,
) -> StepResult:
    """Add up the gradients of this process's ``batches``, clip them, and step if ``guard`` accepts.

    ``clip`` is the maximum global gradient norm, 0 for none. Raises ``TrainingError`` where the
    guard gives up.
    """
    loss = torch.zeros((), device=accelerator.device)
    for number, batch in enumerate(batches, start=1):
        # Processes exchange gradients once per step. They take the mean, and the loss is the sum.
        with nullcontext() if number == len(batches) else accelerator.no_sync(model):
            part = training_loss(model, batch)
            (part * accelerator.num_processes).backward()
        loss += part.detach()
    norm = _clip(accelerator, model, clip)
    taken = guard.accepts(norm)
    for optimizer in optimizers:
        if taken:
            optimizer.step()
        optimizer.zero_grad()
    return StepResult(loss, norm, taken)


def _clip(accelerator: Accelerator, model: nn.Module, clip: float) -> float:
    norm = accelerator.clip_grad_norm_(model.parameters(), clip or torch.inf)
    assert norm is not None
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

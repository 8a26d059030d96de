"""One optimizer step, on any number of processes: the same number whatever the batch is cut into.

A token's weight in the loss comes from the totals of the whole step, so the sum over micro-batches and processes is the loss, and
nothing is averaged over parts of different size. Accelerate divides by the micro-batches and the processes; that is multiplied back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from comfyui_fitv2.flow import token_errors

from .batches import MicroBatch
from .optimizer import StepGuard, TrainingError


@dataclass(frozen=True, slots=True)
class StepResult:
    loss: Tensor
    """This process's part of the loss; the sum over processes is the loss."""
    gradient_norm: float
    """Of all processes, before clipping."""
    taken: bool
    """Whether the weights were changed."""


def training_loss(model: nn.Module, batch: MicroBatch) -> Tensor:
    """The micro-batch's part of the step's loss."""
    return (token_errors(model(batch), batch.target) * batch.weights).sum()


def training_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: AcceleratedOptimizer,
    batches: Sequence[MicroBatch],
    clip: float,
    guard: StepGuard,
) -> StepResult:
    """Add up the gradients of this process's ``batches``, as many as the accelerator accumulates, clip them, and take the step if the ``guard`` accepts it.

    ``clip`` is the most norm of the gradients, 0 for no limit. Raises ``TrainingError`` where the guard gives up.
    """
    loss = torch.zeros((), device=accelerator.device)
    for batch in batches:
        with accelerator.accumulate(model):
            part = training_loss(model, batch)
            accelerator.backward(part * (len(batches) * accelerator.num_processes))
            loss += part.detach()
    norm = _clip(accelerator, model, clip)
    taken = guard.accepts(norm)
    if not taken and accelerator.distributed_type == DistributedType.DEEPSPEED:
        raise TrainingError(
            f"A step had a gradient norm of {norm:g}, and DeepSpeed has taken it already. Go on from the last checkpoint by --resume latest."
        )
    if taken:
        optimizer.step()
    optimizer.zero_grad()
    return StepResult(loss, norm, taken)


def _clip(accelerator: Accelerator, model: nn.Module, clip: float) -> float:
    norm = accelerator.clip_grad_norm_(model.parameters(), clip or torch.inf)
    assert norm is not None
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

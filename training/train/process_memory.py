"""What each process of a run holds in memory, part by part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from accelerate.utils import DistributedType
from torch import Tensor

from .checkpoints.state import local_part
from .run import TrainingRun
from .training_set import AHEAD

_TOKEN_BYTES = 4
"""Of each number of a micro-batch, which is fp32."""


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Bytes of one process. Where weights are sharded, its shares of them."""

    weights: int
    gradients: int
    optimizer: int
    averages: int
    activations: int
    """The rest of the peak of a step: activations, and what PyTorch takes itself. 0 if unknown."""
    index: int
    """What packing knows of every image: a file that all processes of a machine map."""
    ahead: int
    """Micro-batches that the workers have prepared, in host memory."""
    sharded: bool

    @property
    def state(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.averages

    @classmethod
    def of(cls, run: TrainingRun, peak: int = 0) -> ProcessMemory:
        """That of this process of ``run``; ``peak`` is the measured memory of a step, if it is.

        Optimizers hold nothing before their first step.
        """
        model, batch, latents = run.state.model, run.config.batch, run.latents
        trained = [p for p in model.parameters() if p.requires_grad]
        moments = (
            value
            for optimizer in run.state.optimizers
            for values in optimizer.state.values()
            for value in values.values()
            if isinstance(value, Tensor)
        )
        averages = (x for average in run.state.ema.averages.values() for x in average.values())
        parts = {
            "weights": _bytes(model.parameters()),
            "gradients": _bytes(trained),
            "optimizer": _bytes(moments),
            "averages": _bytes(averages),
        }
        known: list[np.ndarray] = [latents.lengths, latents.grids, latents.class_ids]
        tokens = (
            batch.token_budget
            if batch.packing == "packed"
            else batch.images * int(latents.lengths.max())
        )
        numbers = 2 * model.config.in_channels * model.config.patch_size**2 + 1
        return cls(
            **parts,
            activations=max(peak - sum(parts.values()), 0),
            index=sum(array.nbytes for array in known),
            ahead=batch.workers * AHEAD * tokens * numbers * _TOKEN_BYTES,
            sharded=run.accelerator.distributed_type == DistributedType.FSDP,
        )


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Those on this process."""
    return sum(local_part(tensor).nbytes for tensor in tensors)

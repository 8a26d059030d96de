"""Everything in a run that changes from step to step, and its way to disk and back, bit for bit.

No generator's state is among it: everything random follows from (seed, epoch, example). Weights may
be sharded over processes, and then moving averages and optimizer state are, too. Nothing is
gathered: each process saves its slices, and reads those that it needs, however many processes saved
them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from comfyui_fitv2.split_tensors import SplitTensor

from .. import lora
from ..config import LoRAConfig
from ..ema import EMA
from ..guard import StepGuard
from ..model import TrainedFiT
from ..packing import Position, StepTotals
from ..step import StepResult
from .reader import read_shapes, unreadable
from .run_folder import LORA, MODEL, STATE, RunError, ema_file, find_file
from .storage import SlicesReader
from .summary import CheckpointSummary

_NORMS = "guard/norms"
"""Gradient norms of the recent steps, NaN for a skipped one."""
_LOSS_DECAY = 0.99


@dataclass(slots=True)
class TrainingState:
    """``model`` is the bare module, whose parameters may be sharded."""

    model: TrainedFiT
    optimizers: Sequence[Optimizer]
    ema: EMA
    guard: StepGuard
    lora: LoRAConfig
    position: Position = field(default_factory=Position)
    step: int = 0
    """Optimizer steps, including skipped ones."""
    images: int = 0
    tokens: int = 0
    skipped: int = 0
    loss: Tensor | None = None
    """This process's part of the mean loss; the sum over processes is the mean.

    The mean is exponential, over the steps that were taken: of about the last 100, and of all while
    they are few. It does not depend on when the run is logged or saved.
    """

    def advance(self, totals: StepTotals, result: StepResult) -> None:
        """Count a step. If it was taken, the moving averages and the mean loss follow."""
        self.step += 1
        self.images += totals.images
        self.tokens += totals.tokens
        self.position = totals.next_position
        if not result.taken:
            self.skipped += 1
            return
        loss, taken = result.loss, self.ema.updates
        decay = min(_LOSS_DECAY, (1 + taken) / (10 + taken))
        self.loss = loss if self.loss is None else self.loss.lerp(loss, 1 - decay)
        self.ema.update()

    @property
    def is_sharded(self) -> bool:
        """Whether each process has slices of the weights."""
        return any(isinstance(value, DTensor) for value in self.model.parameters())

    def files(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Name and tensors of each file of a checkpoint.

        The tensors are the run's own, not copies, and sharded as they are there; only a LoRA run
        makes some. ``lora.safetensors`` is whole. Every process must ask where weights are sharded.
        """
        weights = self._weights()
        yield MODEL, lora.merged(weights, self.lora)
        for decay, average in self.ema.averages.items():
            yield ema_file(decay), lora.merged({**weights, **average}, self.lora)
        adapters: dict[str, Tensor] = {}
        if self.lora.rank:
            first = next(iter(self.ema.averages.values()))
            yield LORA, lora.host_file({key: _whole(first[key]) for key in first}, self.lora)
            adapters = self._adapters()
        yield STATE, {**self._moments(), **adapters, _NORMS: self._norms()}

    def restore(self, checkpoint: Path, summary: CheckpointSummary, main_process: bool) -> None:
        """Become what ``files`` and the summary describe. Raises ``RunError``."""
        saved = read_shapes(checkpoint, STATE)
        if _NORMS not in saved:
            raise _lacks(find_file(checkpoint, STATE), _NORMS)
        norms = torch.empty(saved[_NORMS].shape, dtype=torch.float64)
        state = {_NORMS: norms, **self._adapters()}
        self.ema.updates = summary.ema_updates
        if summary.ema_updates:
            state |= self._moments()
        _load(checkpoint, STATE, state, saved)
        if self.lora.rank:
            self._check_adapted(checkpoint)
        else:
            _load(checkpoint, MODEL, self._weights())
            for decay, average in self.ema.averages.items():
                _load(checkpoint, ema_file(decay), average)
        self.position = summary.position
        self.step, self.images, self.tokens = summary.step, summary.images, summary.tokens
        self.skipped = summary.skipped
        if summary.loss is not None:
            device = next(self.model.parameters()).device
            loss = summary.loss if main_process else 0.0
            self.loss = torch.tensor(loss, device=device)
        taken = [None if math.isnan(norm) else norm for norm in norms.tolist()]
        self.guard = StepGuard(self.guard.config, taken)

    def _weights(self) -> dict[str, Tensor]:
        """The model's own tensors, so that loading into them is loading into the model."""
        state: dict[str, Any] = get_model_state_dict(self.model)
        return state

    def _adapters(self) -> dict[str, Tensor]:
        """The run's own tensors of adapters, and their averages, under their names in the file."""
        if not self.lora.rank:
            return {}
        sources = {"model": {name: p.detach() for name, p in self.ema.parameters.items()}} | {
            f"ema-{decay}": average for decay, average in self.ema.averages.items()
        }
        return {
            f"{source}/{name}": value
            for source, values in sources.items()
            for name, value in values.items()
        }

    def _norms(self) -> Tensor:
        norms = [math.nan if norm is None else norm for norm in self.guard.norms]
        return torch.tensor(norms, dtype=torch.float64)

    def _check_adapted(self, checkpoint: Path) -> None:
        """Raise ``RunError`` where the adapted weights are not those that the run began with."""
        now = lora.merged(self._weights(), self.lora)
        saved = {name: torch.empty_like(value) for name, value in now.items()}
        _load(checkpoint, MODEL, saved)
        # Other numbers of processes add up the adapters' products in another order.
        changed = [
            name
            for name in saved
            if not torch.allclose(
                local_part(now[name]), local_part(saved[name]), rtol=1e-5, atol=1e-6
            )
        ]
        if changed:
            raise RunError(
                f"{checkpoint}: the checkpoint in init is not the one that this run adapts "
                f"({changed[0]} differs). Name that one."
            )

    def _moments(self) -> dict[str, Tensor]:
        """The optimizers' own tensors as <moment>/<weight>.

        Asking for those of an optimizer that took no step makes them.
        """
        if not self.ema.updates:
            return {}
        state: dict[str, Any] = get_optimizer_state_dict(self.model, self.optimizers)
        return {
            f"{moment}/{name}": value
            for name, moments in state["state"].items()
            for moment, value in moments.items()
        }


def _load(
    checkpoint: Path,
    name: str,
    tensors: dict[str, Tensor],
    saved: Mapping[str, SplitTensor] | None = None,
) -> None:
    """Fill ``tensors`` from the file ``name``, which must hold all of them. Raises ``RunError``."""
    saved = read_shapes(checkpoint, name) if saved is None else saved
    place = find_file(checkpoint, name)
    _check(place, tensors, saved)
    needed = {key: saved[key] for key in tensors}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            # Each process reads alone: it needs none of the others, and says itself what fails.
            load(tensors, storage_reader=SlicesReader(needed), no_dist=True)
    except CheckpointException as failure:
        error = next(iter(failure.failures.values()))[0]
        if isinstance(error, (OSError, SafetensorError)):
            raise unreadable(checkpoint, place, error) from None
        raise error from None


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def local_part(value: Tensor) -> Tensor:
    """What this process has of a tensor that may be sharded."""
    return value.to_local() if isinstance(value, DTensor) else value


def _check(file: Path, expected: Mapping[str, Tensor], saved: Mapping[str, SplitTensor]) -> None:
    """Raise ``RunError`` unless every expected tensor was saved, and in its shape."""
    for name, tensor in expected.items():
        if name not in saved:
            raise _lacks(file, name)
        if tensor.shape != saved[name].shape:
            raise RunError(
                f"{file}: {name} has shape {tuple(saved[name].shape)}, expected "
                f"{tuple(tensor.shape)}. Nothing was changed or removed."
            )


def _lacks(file: Path, name: str) -> RunError:
    return RunError(f"{file} lacks {name}. Nothing was changed or removed.")

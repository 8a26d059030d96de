"""Everything in a run that changes from step to step, and its way to disk and back, bit for bit.

No generator's state is among it: everything random follows from (seed, epoch, example). Weights may
be sharded: PyTorch's distributed state dicts gather them on the main process, and scatter them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from .. import lora
from ..config import LoRAConfig
from ..ema import EMA
from ..guard import StepGuard
from ..model import TrainedFiT
from ..packing import Position, StepTotals
from ..step import StepResult
from .reader import read_tensors
from .run_folder import LORA, MODEL, STATE, RunError, ema_file
from .summary import CheckpointSummary

# Not strict: adapters are loaded without the weights that they adapt. ``_check`` is strict.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, strict=False)
_WHOLE_EVERYWHERE = StateDictOptions(full_state_dict=True)
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

    def files(self) -> Iterator[tuple[str, dict[str, Tensor]]]:
        """Name and tensors of each file of a checkpoint, to be written before asking for the next.

        They are on the CPU of the main process; other processes get none, but must go through all
        files too. While the file of a moving average is out, the model holds that average.
        """
        weights = self._weights()
        yield MODEL, lora.merged(weights, self.lora)
        adapters = self._adapters("model", weights)
        for decay in self.ema.averages:
            with self.ema.in_place(decay):
                weights = self._weights()
                yield ema_file(decay), lora.merged(weights, self.lora)
                adapters |= self._adapters(f"ema-{decay}", weights)
        if self.lora.rank:
            first = _under(f"ema-{next(iter(self.ema.averages))}/", adapters)
            yield LORA, lora.host_file(first, self.lora)
        norms = [math.nan if norm is None else norm for norm in self.guard.norms]
        guard = {_NORMS: torch.tensor(norms, dtype=torch.float64)}
        yield STATE, {**self._moments(), **adapters, **guard}

    def restore(self, checkpoint: Path, summary: CheckpointSummary, main_process: bool) -> None:
        """Become what ``files`` and the summary describe. Raises ``RunError``."""
        state = read_tensors(checkpoint, STATE)
        if summary.ema_updates:
            self._restore_moments(checkpoint / STATE, state)
        if self.lora.rank:
            self._restore_adapters(checkpoint, state)
        else:
            self._restore_weights(checkpoint)
        self.position = summary.position
        self.step, self.images, self.tokens = summary.step, summary.images, summary.tokens
        self.skipped, self.ema.updates = summary.skipped, summary.ema_updates
        if summary.loss is not None:
            device = next(self.model.parameters()).device
            loss = summary.loss if main_process else 0.0
            self.loss = torch.tensor(loss, device=device)
        norms = [None if math.isnan(norm) else norm for norm in state[_NORMS].tolist()]
        self.guard = StepGuard(self.guard.config, norms)

    def _weights(self) -> dict[str, Tensor]:
        return get_model_state_dict(self.model, options=_WHOLE)

    def _adapters(self, prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not self.lora.rank:
            return {}
        names = [name for name in self.ema.parameters if name in weights]
        return {f"{prefix}/{name}": weights[name].clone() for name in names}

    def _load(
        self, file: Path, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> None:
        """Load whole tensors into the model: all those ``expected``, which ``file`` must hold."""
        _check(file, expected, tensors)
        weights = {name: tensors[name] for name in expected}
        set_model_state_dict(self.model, weights, options=_WHOLE)

    def _restore_weights(self, checkpoint: Path) -> None:
        names = self.model.state_dict()
        for decay in self.ema.averages:
            file = ema_file(decay)
            self._load(checkpoint / file, names, read_tensors(checkpoint, file))
            self.ema.copy_from_parameters(decay)
        self._load(checkpoint / MODEL, names, read_tensors(checkpoint, MODEL))

    def _restore_adapters(self, checkpoint: Path, state: Mapping[str, Tensor]) -> None:
        file, names = checkpoint / STATE, self.ema.parameters
        for decay in self.ema.averages:
            self._load(file, names, _under(f"ema-{decay}/", state))
            self.ema.copy_from_parameters(decay)
        self._load(file, names, _under("model/", state))
        saved = read_tensors(checkpoint, MODEL)
        weights = get_model_state_dict(self.model, options=_WHOLE_EVERYWHERE)
        now = lora.merged(weights, self.lora)
        if changed := [key for key in saved if not torch.equal(now[key].cpu(), saved[key])]:
            raise RunError(
                f"{checkpoint}: the checkpoint in init is not the one that this run adapts "
                f"({changed[0]} differs). Name that one."
            )

    def _moments(self) -> dict[str, Tensor]:
        """The optimizers' tensors as <moment>/<weight>."""
        if not self.ema.updates:
            return {}  # no step was taken; asking for the state would take one
        return _flat(get_optimizer_state_dict(self.model, self.optimizers, options=_WHOLE))

    def _restore_moments(self, file: Path, saved: Mapping[str, Tensor]) -> None:
        # Asking for the state makes it; the hyperparameters in it are the configuration's.
        state: dict[str, Any] = get_optimizer_state_dict(self.model, self.optimizers)
        _check(file, _flat(state), saved)
        moments = {
            name: {moment: saved[f"{moment}/{name}"] for moment in present}
            for name, present in state["state"].items()
        }
        whole = {**state, "state": moments}
        set_optimizer_state_dict(self.model, self.optimizers, whole, options=_WHOLE)


def _flat(optimizer_state: dict[str, Any]) -> dict[str, Tensor]:
    return {
        f"{moment}/{name}": value
        for name, moments in optimizer_state.get("state", {}).items()
        for moment, value in moments.items()
    }


def _check(file: Path, expected: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raise ``RunError`` unless every expected tensor was saved, and in its shape."""
    for name, tensor in expected.items():
        if name not in saved:
            raise RunError(f"{file} lacks {name}. Nothing was changed or removed.")
        if tensor.shape != saved[name].shape:
            raise RunError(
                f"{file}: {name} has shape {tuple(saved[name].shape)}, expected "
                f"{tuple(tensor.shape)}. Nothing was changed or removed."
            )


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }

"""All of a run that changes from step to step, and its way to disk and back, bit for bit.

Nothing here draws random numbers, and the data draw theirs from (seed, epoch, image): there is no generator whose state to keep.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from comfyui_fitv2.config import METADATA_KEY, FiTConfig, LatentFormat, Metadata

from .. import lora
from ..config import LoRAConfig
from ..ema import EMA
from ..model import TrainedFiT
from ..optimizer import StepGuard
from ..packing import Position, StepTotals
from .reader import LORA, MODEL, STATE, CheckpointError, ema_file, read_tensors
from .sharding import copy_whole, whole

_KEPT = (("step", "exp_avg", "exp_avg_sq"), ("momentum_buffer",))
"""Of each weight, by AdamW and by Muon."""
_NORMS = "guard/norms"
"""Gradient norms of the recent steps, NaN for a skipped one."""

Files = Iterator[tuple[str, dict[str, Tensor]]]


@dataclass(slots=True)
class TrainingState:
    """``model`` is the bare module, whose parameters may be sharded; ``optimizer`` None where another (DeepSpeed) keeps its own state."""

    model: TrainedFiT
    optimizer: Optimizer | None
    ema: EMA
    guard: StepGuard
    adapters: LoRAConfig | None = None
    position: Position = field(default_factory=Position)
    step: int = 0
    """Optimizer steps, skipped ones included."""
    images: int = 0
    tokens: int = 0
    skipped: int = 0
    loss: float | None = None
    """Mean since the line of numbers before the last."""

    def advance(self, totals: StepTotals, taken: bool) -> None:
        """Count a step, and let the averages follow if it was ``taken``."""
        self.step += 1
        self.images += totals.images
        self.tokens += totals.tokens
        self.position = totals.next_position
        if taken:
            self.ema.update()
        else:
            self.skipped += 1

    def counters(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "step": self.step,
            "images": self.images,
            "tokens": self.tokens,
            "skipped": self.skipped,
            "loss": self.loss,
            "position": asdict(self.position),
            "ema_updates": self.ema.updates,
        }

    def files(self, wanted: bool) -> Files:
        """The tensors of a checkpoint, file by file, on the CPU. Every process must go through them all; those of which they are not ``wanted``
        help to gather sharded tensors, and get empty ones."""
        model, adapters = _gathered(self.model.state_dict(), wanted), {}
        yield MODEL, self._plain(model)
        for decay, average in self.ema.averages.items():
            gathered = _gathered(average, wanted)
            yield ema_file(decay), self._plain({**model, **gathered})
            if self.adapters:
                adapters |= {f"ema-{decay}/{name}": value for name, value in gathered.items()}
        if self.adapters:
            yield (
                LORA,
                lora.host_file(
                    _under(f"ema-{next(iter(self.ema.averages))}/", adapters), self.adapters
                ),
            )
            adapters |= {f"model/{name}": model[name] for name in self.ema.parameters if wanted}
        norms = torch.tensor(
            [math.nan if norm is None else norm for norm in self.guard.norms], dtype=torch.float64
        )
        yield STATE, {**self._moments(wanted), **adapters, _NORMS: norms}

    def restore(self, checkpoint: Path, summary: Mapping[str, Any]) -> None:
        """Become what ``files`` and ``counters`` described. Raises ``CheckpointError``."""
        state = read_tensors(checkpoint, STATE)
        model = read_tensors(checkpoint, MODEL)
        if self.adapters:
            self._restore_adapters(checkpoint, model, state)
        else:
            _copy(checkpoint / MODEL, self.model.state_dict(), model)
            for decay, average in self.ema.averages.items():
                _copy(
                    checkpoint / ema_file(decay), average, read_tensors(checkpoint, ema_file(decay))
                )
        if self.optimizer is not None:
            self._restore_moments(checkpoint, state)
        self.position = Position(**summary["position"])
        self.step, self.images, self.tokens = summary["step"], summary["images"], summary["tokens"]
        self.skipped, self.loss = summary["skipped"], summary["loss"]
        self.ema.updates = summary["ema_updates"]
        self.guard = StepGuard(
            self.guard.config,
            [None if math.isnan(norm) else norm for norm in state[_NORMS].tolist()],
        )

    def _plain(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return lora.merged(state, self.adapters) if self.adapters else state

    def _restore_adapters(
        self, checkpoint: Path, saved: Mapping[str, Tensor], state: Mapping[str, Tensor]
    ) -> None:
        assert self.adapters is not None
        _copy(checkpoint / STATE, self.ema.parameters, _under("model/", state))
        for decay, average in self.ema.averages.items():
            _copy(checkpoint / STATE, average, _under(f"ema-{decay}/", state))
        now = lora.merged(_gathered(self.model.state_dict(), wanted=True), self.adapters)
        if changed := [key for key, value in saved.items() if not torch.equal(now[key], value)]:
            raise CheckpointError(
                f"{checkpoint}: the checkpoint named by init is another than the one this run adapts ({changed[0]} differs). Name that one."
            )

    def _moments(self, wanted: bool) -> dict[str, Tensor]:
        moments: dict[str, Tensor] = {}
        for name, parameter in self._optimized():
            for kind, value in self.optimizer.state[parameter].items() if self.optimizer else ():
                gathered = whole(value, wanted)
                if gathered is not None:
                    moments[f"{kind}/{name}"] = gathered
        return moments

    def _restore_moments(self, checkpoint: Path, state: Mapping[str, Tensor]) -> None:
        assert self.optimizer is not None
        for name, parameter in self._optimized():
            kinds = next(
                (kinds for kinds in _KEPT if any(f"{kind}/{name}" in state for kind in kinds)), None
            )
            if kinds is None:  # no step has been taken yet
                continue
            moments = {
                kind: torch.zeros_like(parameter, memory_format=torch.preserve_format)
                for kind in kinds
                if kind != "step"
            }
            if "step" in kinds:
                moments["step"] = torch.zeros((), device=parameter.device)
            _copy(
                checkpoint / STATE,
                {f"{kind}/{name}": value for kind, value in moments.items()},
                state,
            )
            self.optimizer.state[parameter] = moments

    def _optimized(self) -> Iterator[tuple[str, Parameter]]:
        return (
            (name, parameter)
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        )


def metadata_of(
    fit: FiTConfig, class_names: tuple[str, ...], latent_format: Mapping[str, Any], step: int
) -> dict[str, str]:
    """Of a checkpoint's files of weights, with which they load by themselves."""
    metadata = Metadata(fit, class_names, LatentFormat(**latent_format), {"step": step})
    return {"format": "pt", METADATA_KEY: metadata.to_json()}


def _gathered(tensors: Mapping[str, Tensor], wanted: bool) -> dict[str, Tensor]:
    gathered = {name: whole(value, wanted) for name, value in tensors.items()}
    return {name: value for name, value in gathered.items() if value is not None}


def _copy(path: Path, targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    for name, target in targets.items():
        if name not in sources:
            raise CheckpointError(f"{path} lacks {name}. Nothing was changed or removed.")
        try:
            copy_whole(target, sources[name])
        except ValueError as error:
            raise CheckpointError(
                f"{path}: {name} has {error}. Nothing was changed or removed."
            ) from None


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }

"""A training step on devices that this machine lacks; see ``support.pretended_device``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from support.micro_batches import batch_of, random_model, training_set
from support.pretended_device import DeviceTensor, PretendedDevice
from torch import Tensor, nn

from comfyui_fitv2 import rope
from training.train.config import GuardConfig, OptimizerConfig
from training.train.ema import EMA
from training.train.guard import StepGuard
from training.train.optimizer import make_optimizers
from training.train.step import training_step

WAITS = {
    # The guard decides on the CPU whether the step is taken: once per step, after its last pass.
    "step.py:_clip": 1,
}
"""How often a step may wait for the device, by "file.py:function"."""


class OneDevice:
    """The part of an ``Accelerator`` that a step uses, with one process on the pretended device."""

    num_processes = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def clip_grad_norm_(self, parameters: Any, largest: float) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, largest)


@pytest.fixture(params=["cuda", "mps"])
def device(request: pytest.FixtureRequest) -> Iterator[PretendedDevice]:
    rope._cached_table.cache_clear()
    yield PretendedDevice(request.param)
    rope._cached_table.cache_clear()


@pytest.mark.filterwarnings("ignore:.*autocast.*|.*is not available")
@pytest.mark.parametrize(
    ("kind", "packing", "checkpointing"),
    [("adamw", "packed", False), ("adamw", "padded", True), ("muon", "packed", False)],
)
def test_a_step_waits_for_the_device_once(
    device: PretendedDevice, data: Path, kind: str, packing: str, checkpointing: bool
) -> None:
    examples = training_set(data, packing=packing)
    batches = [batch_of(examples, 0, 1, 2, 3), batch_of(examples, 4, 5)]
    model = random_model(activation_checkpointing=checkpointing)
    with device:
        model.to(device.device)
        parameters = dict(model.named_parameters())
        config = OptimizerConfig(kind=kind)  # pyright: ignore[reportArgumentType]
        optimizers = make_optimizers(cast("dict[str, nn.Parameter]", parameters), config)
        average = EMA(parameters, [0.99, 0.9])
        accelerator = cast(Accelerator, OneDevice(device.device))
        guard = StepGuard(GuardConfig())
        for _ in range(2):
            device.waits.clear()
            moved = [batch.to(device.device) for batch in batches]
            result = training_step(accelerator, model, optimizers, moved, 1.0, guard)
            average.update()
            assert dict(device.waits) == WAITS
            assert result.taken
            assert isinstance(result.loss, DeviceTensor)
        assert all(isinstance(x, DeviceTensor) for x in average.averages[0.99].values())

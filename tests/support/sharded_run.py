"""A training run whose weights are sharded by FSDP2 on CPU processes.

torchrun starts it with the command line of ``training.train``. accelerate does not turn FSDP on
without a GPU, not even with ACCELERATE_USE_CPU; once it is on, its own code shards on CPUs too.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from comfyui_fitv2.layers import Block
from training import train
from training.train import run
from training.train.accelerator import fsdp_plugin, make_accelerator
from training.train.config import TrainingConfig
from training.train.sample_sheet import SampleSheet


def sharded_accelerator(config: TrainingConfig) -> Accelerator:
    """As the accelerator of ``training.train``, but it shards."""
    os.environ |= {
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block",
    }
    accelerator = make_accelerator(config)
    for state in (PartialState(), accelerator.state):
        state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = fsdp_plugin(config)
    return accelerator


class Gathered:
    """Counts the blocks whose weights are whole on this process at the same time."""

    def __init__(self, model: nn.Module) -> None:
        self.most = 0
        self._blocks = [module for module in model.modules() if isinstance(module, Block)]
        for block in self._blocks:
            block.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        whole = [
            block
            for block in self._blocks
            if not any(isinstance(value, DTensor) for value in block.parameters())
        ]
        self.most = max(self.most, len(whole))


class ShardedRun(run.TrainingRun):
    """A run that says how its weights are sharded, and what a sample sheet gathers."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        model, average = self.state.model, self.state.ema.averages[self.config.ema_decays[0]]
        sharded = (*model.parameters(), *average.values())
        assert all(isinstance(value, DTensor) for value in sharded)
        groups = sum(isinstance(module, FSDPModule) for module in model.modules())
        self.accelerator.print(f"{groups} groups of sharded weights")

    def render_sheet(self, sheet: SampleSheet) -> None:
        gathered = Gathered(self.state.model)
        super().render_sheet(sheet)
        self.accelerator.print(f"blocks gathered at once: {gathered.most}")


def shard() -> None:
    """Let ``training.train`` shard."""
    train.make_accelerator = sharded_accelerator
    train.TrainingRun = ShardedRun


if __name__ == "__main__":
    shard()
    status = train.main(sys.argv[1:])
    # gloo's threads may outlive the interpreter, and then abort a process that has done its work.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

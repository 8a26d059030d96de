"""A training run whose weights are sharded by PyTorch's own ``fully_shard`` on CPU processes, where accelerate refuses FSDP.

Started by torchrun with the command line of ``training.train``. What accelerate would do is done here: each ``Block`` is a unit, then the
rest, and the optimizer gets the sharded weights.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import AdamW

from comfyui_fitv2.layers import Block
from training.train.accelerator import configure_fsdp
from training.train.config_parser import parse_config
from training.train.run import Run


class ShardingAccelerator(Accelerator):
    plugin: FullyShardedDataParallelPlugin

    @property
    def distributed_type(self) -> DistributedType:
        return DistributedType.FSDP

    def prepare(self, *args: Any, device_placement: list[bool] | None = None) -> Any:
        model, optimizer = args
        assert isinstance(model, nn.Module)
        assert isinstance(optimizer, AdamW)
        names = {parameter: name for name, parameter in model.named_parameters()}
        members = [
            [names[parameter] for parameter in group["params"]] for group in optimizer.param_groups
        ]
        policy: Any = self.plugin.mixed_precision_policy
        for module in model.modules():
            if isinstance(module, Block):
                fully_shard(module, mp_policy=policy)
        fully_shard(model, mp_policy=policy)
        sharded = dict(model.named_parameters())
        for group, group_names in zip(optimizer.param_groups, members, strict=True):
            group["params"] = [sharded[name] for name in group_names]
        return model, super().prepare_optimizer(optimizer)


def main() -> None:
    config = parse_config(sys.argv[1:])
    accelerator = ShardingAccelerator(cpu=True)
    accelerator.plugin = FullyShardedDataParallelPlugin(fsdp_version=2)
    configure_fsdp(accelerator.plugin, config)
    run = Run(config, accelerator)
    groups = sum(isinstance(module, FSDPModule) for module in run.state.model.modules())
    assert all(
        isinstance(value, DTensor)
        for value in (
            *run.state.model.parameters(),
            *run.state.ema.averages[config.ema_decays[0]].values(),
        )
    )
    accelerator.print(f"{groups} groups of sharded weights")
    run.train()
    # Threads of gloo's may still run when the interpreter takes itself apart, and then abort a process that has done its work.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

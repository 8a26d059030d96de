"""A training run whose weights are sharded by FSDP2 on CPU processes.

torchrun starts it with the command line of ``training.train``. accelerate does not turn FSDP on
without a GPU, not even with ACCELERATE_USE_CPU; once it is on, its own code shards on CPUs too.
"""

from __future__ import annotations

import os
import sys

from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from training.train.accelerator import fsdp_plugin
from training.train.config_parser import parse_config
from training.train.run import TrainingRun


def main() -> None:
    config = parse_config(sys.argv[1:])
    os.environ |= {
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block",
    }
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    for state in (PartialState(), accelerator.state):
        state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = fsdp_plugin(config)
    run = TrainingRun(config, accelerator)
    model, average = run.state.model, run.state.ema.averages[config.ema_decays[0]]
    assert all(isinstance(value, DTensor) for value in (*model.parameters(), *average.values()))
    groups = sum(isinstance(module, FSDPModule) for module in model.modules())
    accelerator.print(f"{groups} groups of sharded weights")
    run.train()
    # gloo's threads may outlive the interpreter, and then abort a process that has done its work.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()

"""One process, DDP or FSDP2, as accelerate was configured, with what this trainer needs of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    FullyShardedDataParallelPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
    parse_flag_from_env,
)
from torch.distributed.fsdp import MixedPrecisionPolicy

from ..processes import check_joined, check_launch, started_processes, watch_others
from .checkpoints.run_folder import LOGS
from .config import ConfigError, TrainingConfig

NO_TRACKER = "none"
_TIMEOUT = timedelta(hours=1)
"""Longer than a process takes to write a checkpoint, while the others wait."""


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """The accelerator of this process.

    ``config.precision`` is applied by ``model.TrainedFiT``, whatever precision accelerate was told.
    Raises ``ConfigError`` on a kind of distribution or a tracker that cannot be used, and
    ``ValueError`` where several processes were started that cannot train together.
    """
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        raise ConfigError(
            "DeepSpeed is not supported. Shard with FSDP2: training/configs/accelerate/fsdp2.yaml."
        )
    check_launch(parse_flag_from_env("ACCELERATE_USE_CPU"))
    tracker = None if config.logging.tracker == NO_TRACKER else config.logging.tracker
    accelerator = Accelerator(
        mixed_precision="no",
        log_with=tracker,
        fsdp_plugin=fsdp_plugin(config) if parse_flag_from_env("ACCELERATE_USE_FSDP") else None,
        project_config=ProjectConfiguration(
            project_dir=config.output, logging_dir=str(Path(config.output) / LOGS)
        ),
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=_TIMEOUT),
        ],
    )
    check_joined(accelerator.num_processes, _launch_advice())
    watch_others(accelerator.num_processes)
    if tracker and not accelerator.log_with:
        raise ConfigError(
            f"logging.tracker: {tracker} is not installed. Install it, or set it to tensorboard or "
            f"{NO_TRACKER}."
        )
    check_optimizer(accelerator.distributed_type, config)
    return accelerator


def _launch_advice() -> str:
    one = "Start one with: python -m training.train ..."
    if torch.accelerator.is_available():
        return f"{one}; or several with torchrun or accelerate launch."
    return (
        f"This machine has no GPU. {one}; or train on the CPU with all: ACCELERATE_USE_CPU=true "
        f"torchrun --nproc_per_node {started_processes()} -m training.train ..."
    )


def check_optimizer(distributed: DistributedType, config: TrainingConfig) -> None:
    """Raise ``ConfigError`` on Muon, which needs whole matrices, where they are sharded."""
    if config.optimizer.kind == "muon" and distributed == DistributedType.FSDP:
        raise ConfigError(
            "optimizer.kind: muon needs whole matrices, which FSDP shards. Set it to adamw, or use "
            "DDP."
        )


def fsdp_plugin(config: TrainingConfig) -> FullyShardedDataParallelPlugin:
    """FSDP2 as the launcher configured it: weights in the compute precision, gradients in fp32.

    Raises ``ConfigError`` on FSDP of version 1.
    """
    plugin = FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise ConfigError(
            "FSDP version 1 is not supported. Set fsdp_version: 2, as in "
            "training/configs/accelerate/fsdp2.yaml."
        )
    # Set after the launcher's variables were read. Inputs keep their precision: a time rounded to
    # bf16 would be another time.
    plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if config.precision == "bf16" else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
    )
    return plugin

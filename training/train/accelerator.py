"""One process, DDP, FSDP2 or DeepSpeed: as accelerate was configured, with what this trainer needs of each."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    ProjectConfiguration,
)
from torch.distributed.fsdp import MixedPrecisionPolicy

from .config import ConfigError, TrainingConfig

NO_TRACKER = "none"
_LONGEST_WAIT = timedelta(hours=1)
"""For the process that writes a checkpoint."""


def make_accelerator(config: TrainingConfig) -> Accelerator:
    """The accelerator of this process. Precision is ours to apply (``model.TrainedFiT``), whatever accelerate was told. Raises ``ConfigError`` on a
    distribution or a tracker that cannot be used."""
    tracker = None if config.logging.tracker == NO_TRACKER else config.logging.tracker
    accelerator = Accelerator(
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=config.batch.accumulation, sync_with_dataloader=False
        ),
        log_with=tracker,
        project_config=ProjectConfiguration(
            project_dir=config.output, logging_dir=str(Path(config.output) / "logs")
        ),
        kwargs_handlers=[
            DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            InitProcessGroupKwargs(timeout=_LONGEST_WAIT),
        ],
    )
    if tracker and not accelerator.log_with:
        raise ConfigError(
            f"logging.tracker: {tracker} is not installed. Install it, or set it to tensorboard or {NO_TRACKER}."
        )
    check_optimizer(accelerator.distributed_type, config)
    if accelerator.distributed_type == DistributedType.FSDP:
        configure_fsdp(accelerator.state.fsdp_plugin, config)
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        configure_deepspeed(accelerator.state.deepspeed_plugin, config, accelerator.num_processes)
    return accelerator


def check_optimizer(distributed: DistributedType, config: TrainingConfig) -> None:
    """Raises ``ConfigError`` on Muon, which needs whole matrices, where they are cut up."""
    if config.optimizer.kind == "muon" and distributed in (
        DistributedType.FSDP,
        DistributedType.DEEPSPEED,
    ):
        raise ConfigError(
            "optimizer.kind: muon needs whole matrices, which FSDP and DeepSpeed cut up. Set it to adamw, or use DDP."
        )


def configure_fsdp(plugin: Any, config: TrainingConfig) -> None:
    """Gather weights in the precision that is computed in, add up gradients in fp32. Raises ``ConfigError`` on FSDP of version 1."""
    if plugin.fsdp_version != 2:
        raise ConfigError(
            "FSDP version 1 is not supported. Set fsdp_version: 2, as in training/configs/accelerate/fsdp2.yaml."
        )
    # Inputs stay as they are: a time rounded to bf16 would be another time.
    compute = torch.bfloat16 if config.precision == "bf16" else None
    plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


def configure_deepspeed(plugin: Any, config: TrainingConfig, processes: int) -> None:
    """Raises ``ConfigError`` on ZeRO stage 3, whose weights no moving average can be taken of."""
    if plugin.zero_stage == 3:
        raise ConfigError(
            "DeepSpeed's ZeRO stage 3 is not supported. Use stage 1 or 2, or shard by FSDP2 (training/configs/accelerate/fsdp2.yaml)."
        )
    plugin.deepspeed_config |= {
        "train_micro_batch_size_per_gpu": 1,  # a pack
        "train_batch_size": processes * config.batch.accumulation,
        "gradient_accumulation_steps": config.batch.accumulation,
        "gradient_clipping": config.optimizer.gradient_clip,
    }

"""Micro-batches and gradients of a small model, for tests of single steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from comfyui_fitv2 import FiTConfig
from training.data import open_latent_set
from training.train.config import BatchConfig, FlowConfig
from training.train.model import TrainedFiT
from training.train.packing import Pack, Position, StepTotals
from training.train.step import training_loss
from training.train.training_set import MicroBatch, TrainingSet

from .latent_sets import make_latent_set
from .run_folders import SMALL


def make_examples(path: Path) -> Path:
    """48 examples of four sizes and three classes; every second one has a crop."""
    sizes = ((4, 4), (2, 6), (6, 2), (3, 4))
    return make_latent_set(path, sizes, classes=3, per_class=16, crop=(4, 4))


def training_set(
    data: Path, model_config: FiTConfig = SMALL, flow: FlowConfig | None = None, **batch: Any
) -> TrainingSet:
    return TrainingSet(
        open_latent_set(data),
        model_config,
        flow or FlowConfig(),
        BatchConfig(**{"token_budget": 64, "workers": 0, **batch}),
        seed=0,
        class_map=np.arange(3),
    )


def batch_of(examples: TrainingSet, *indices: int, epoch: int = 0) -> MicroBatch:
    """A step of these examples, none of them cropped."""
    sizes = [int(examples.lengths[index, 0]) for index in indices]
    totals = StepTotals(len(sizes), sum(sizes), 0, 0, Position())
    seen = tuple((epoch, index, False, 0) for index in indices)
    return examples.micro_batch(Pack(Position(), seen, sum(sizes), 0, 0), totals)


def random_model(model_config: FiTConfig = SMALL, **options: Any) -> TrainedFiT:
    """A model whose every weight matters, as none does while output and modulation are 0."""
    model = TrainedFiT(model_config, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradients(model: TrainedFiT, *batches: MicroBatch) -> tuple[float, dict[str, Tensor]]:
    """The loss of a step, and its gradient by parameter name."""
    model.zero_grad()
    loss = sum((training_loss(model, batch) for batch in batches), torch.zeros(()))
    loss.backward()
    named = ((name, p.grad) for name, p in model.named_parameters())
    return loss.item(), {name: grad.clone() for name, grad in named if grad is not None}

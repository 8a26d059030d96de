"""From packs to micro-batches: what the model sees, and what it should answer.

Everything random about an example (mirroring, label drop, time, posterior, noise) comes from a
generator of (seed, epoch, example, repeat). So it depends neither on the other examples of a batch
nor on the process, or the worker of a process, that prepares it. Nothing uses the global
generators: a run that resumes needs no state of theirs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.devices import copied_to
from comfyui_fitv2.flow import TimeDistribution, flow_of, token_weights
from comfyui_fitv2.model import patchify

from ..data.latent_set import LatentSet
from ..processes import DataWorkers
from ..seeds import example_generator
from .config import BatchConfig, FlowConfig
from .draws import Draws, Seen
from .packing import Pack, Position, StepTotals, steps_from

AHEAD = 4
"""Micro-batches that each worker prepares ahead."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some images as tokens: in one row that holds all of them, or, padded, in one row each."""

    tokens: Tensor
    """(rows, tokens, C·p·p) fp32: the images on their way from noise to data."""
    target: Tensor
    """(rows, tokens, C·p·p) fp32: what the model should answer."""
    weights: Tensor
    """(rows, tokens): each token's weight in the loss of the whole step, 0 for padding."""
    t: Tensor
    """(images,): the model's time of each image."""
    y: Tensor
    """(images,): the class id of each image, or the null class."""
    grids: tuple[tuple[int, int], ...]
    """Tokens of each image as (rows, columns)."""
    padded: bool
    step: StepTotals
    """Totals of the whole step that this is a part of."""

    def to(self, device: torch.device) -> MicroBatch:
        moved = {name: copied_to(device, value) for name, value in self._tensors()}
        return replace(self, **moved)

    def pin_memory(self) -> MicroBatch:
        return replace(self, **{name: value.pin_memory() for name, value in self._tensors()})

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        values = ((f.name, getattr(self, f.name)) for f in fields(self))
        return ((name, value) for name, value in values if isinstance(value, Tensor))


@dataclass(frozen=True)
class TrainingSet:
    """A latent set as a model of ``model_config`` sees it."""

    latents: LatentSet
    model_config: FiTConfig
    flow: FlowConfig
    batch: BatchConfig
    seed: int
    class_map: np.ndarray
    """(classes of the set,): the model's class id of each."""
    held_out: np.ndarray | None = None
    """Indices of the examples that are never trained on."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy for another process, without what can be worked out there."""
        return TrainingSet, tuple(getattr(self, f.name) for f in fields(self))

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n, 2): tokens of the resized and of the cropped version of every example."""
        return self.latents.lengths

    @cached_property
    def draws(self) -> Draws:
        """The examples of every epoch."""
        balance = self.batch.class_balance
        return Draws(self.lengths, self.latents.class_ids, self.held_out, balance)

    def micro_batch(self, pack: Pack, step: StepTotals) -> MicroBatch:
        """The micro-batch of a pack of the ``step``."""
        self.latents.fetch([example[1] for example in pack.examples])
        # By length: neighbours of one length go through the model together.
        seen = sorted(pack.examples, key=lambda example: self.lengths[example[1], int(example[2])])
        tokens, targets, t, y = zip(*(self._point(*example) for example in seen), strict=True)
        weights = [token_weights(len(x), self.flow.loss, step.images, step.tokens) for x in tokens]
        padded = self.batch.packing == "padded"
        x, target, weight = (
            pad_sequence(list(parts), batch_first=True) if padded else torch.cat(parts)[None]
            for parts in (tokens, targets, weights)
        )
        grids = tuple(self._grid(example) for example in seen)
        return MicroBatch(x, target, weight, torch.stack(t), torch.tensor(y), grids, padded, step)

    def _grid(self, seen: Seen) -> tuple[int, int]:
        _, index, cropped, _ = seen
        rows, columns = self.latents.grids[index, int(cropped)].tolist()
        return rows, columns

    def _point(
        self, epoch: int, index: int, cropped: bool, repeat: int
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Tokens, target, time and class id. The order of the random draws must never change."""
        generator = example_generator(self.seed, epoch, index, repeat)
        chances = torch.tensor([self.batch.flip, self.flow.label_drop])
        flipped, dropped = (torch.rand(2, generator=generator) < chances).tolist()
        mean, std = self.latents.moments(index, cropped, flipped)
        posterior, noise = torch.randn(2, *mean.shape, generator=generator)
        flow, config = flow_of(self.model_config), self.flow
        times = TimeDistribution(config.timesteps, config.mean, config.std, config.shift)
        t = flow.draw_time(generator, times)
        x, target = flow.point(mean + std * posterior, noise, t)
        tokens, target = patchify(torch.stack([x, target]), self.model_config.patch_size)
        class_id = int(self.class_map[self.latents.class_ids[index]])
        return tokens, target, t, self.model_config.null_class if dropped else class_id


class MicroBatches(IterableDataset):
    """One process's micro-batches from ``position`` on, without end.

    With n workers, worker i prepares every n-th batch starting at i.
    """

    def __init__(
        self, examples: TrainingSet, position: Position, process: int, processes: int
    ) -> None:
        self.examples = examples
        self.position = position
        accumulation = examples.batch.accumulation
        self.share = slice(process * accumulation, (process + 1) * accumulation)
        self.packs_per_step = processes * accumulation

    def __iter__(self) -> Iterator[MicroBatch]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        packs = islice(self._packs(), first, None, stride)
        return (self.examples.micro_batch(pack, step) for step, pack in packs)

    def _packs(self) -> Iterator[tuple[StepTotals, Pack]]:
        examples = self.examples
        for step in steps_from(
            self.position, examples.draws, examples.batch, examples.seed, self.packs_per_step
        ):
            yield from ((step.totals, pack) for pack in step.packs[self.share])


def micro_batches(
    examples: TrainingSet, position: Position, process: int, processes: int, device: torch.device
) -> Generator[MicroBatch, None, None]:
    """The process's micro-batches on ``device``, prepared ahead by ``batch.workers`` workers.

    They come in the same order for any number of workers. Close the generator to end the workers.
    """
    workers, control = examples.batch.workers, DataWorkers()
    examples.draws.share()
    loader = DataLoader(
        MicroBatches(examples, position, process, processes),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=control,
    )
    try:
        for batch in loader:
            yield batch.to(device)
    finally:
        control.end()

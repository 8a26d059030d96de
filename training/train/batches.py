"""From packs to micro-batches: what the model sees, and what it should answer.

All that is drawn for an image (mirror, label drop, time, posterior, noise) comes from a generator of (seed, epoch, image), so that it
depends neither on the images beside it nor on which process, or which of a process's workers, prepares it. Nothing draws from the
global generators: a run that goes on needs no state of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from comfyui_fitv2.config import DDPM_TIMESTEPS, FiTConfig
from comfyui_fitv2.flow import sample_timesteps, token_weights, training_point
from comfyui_fitv2.model import patchify

from ..data.latent_set import LatentSet
from ..processes import leave_signals_to_the_run
from ..seeds import example_generator
from .config import BatchConfig, FlowConfig
from .packing import Pack, Position, StepTotals, steps_from

_AHEAD = 4
"""Micro-batches that each worker prepares ahead."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some images as tokens: one row that holds all of them, or, padded, a row each."""

    tokens: Tensor
    """(rows, tokens, C·p·p) fp32: the images on their way from noise to data."""
    target: Tensor
    """What the model should answer, of the same shape."""
    weights: Tensor
    """(rows, tokens): each token's part in the loss of the whole step, 0 for padding."""
    t: Tensor
    y: Tensor
    """(images,) each."""
    grids: tuple[tuple[int, int], ...]
    """Tokens of each image as (rows, columns)."""
    padded: bool
    step: StepTotals
    """Of the whole step that it is part of."""

    def to(self, device: torch.device) -> MicroBatch:
        return replace(
            self, **{name: value.to(device, non_blocking=True) for name, value in self._tensors()}
        )

    def pin_memory(self) -> MicroBatch:
        return replace(self, **{name: value.pin_memory() for name, value in self._tensors()})

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        return (
            (f.name, value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        )


@dataclass(frozen=True)
class Images:
    """A latent set as a model of ``fit`` sees it."""

    latents: LatentSet
    fit: FiTConfig
    flow: FlowConfig
    batch: BatchConfig
    seed: int
    labels: np.ndarray
    """(classes of the set,): the model's id of each class of the set."""

    @cached_property
    def lengths(self) -> np.ndarray:
        """(n, 2): tokens of the resized and of the cropped version of every image."""
        return self.latents.grids.prod(axis=-1)

    def micro_batch(self, pack: Pack, step: StepTotals) -> MicroBatch:
        # By length: neighbours of one length go through the model together.
        images = sorted(pack.images, key=lambda image: self.lengths[image[1], int(image[2])])
        points = [self._point(*image) for image in images]
        tokens, targets, t, y = zip(*points, strict=True)
        weights = [token_weights(len(x), self.flow.loss, step.images, step.tokens) for x in tokens]
        padded = self.batch.packing == "padded"
        x, target, weight = (
            pad_sequence(list(parts), batch_first=True) if padded else torch.cat(parts)[None]
            for parts in (tokens, targets, weights)
        )
        grids = tuple(
            (int(rows), int(columns))
            for rows, columns in (
                self.latents.grids[index, int(cropped)] for _, index, cropped in images
            )
        )
        return MicroBatch(x, target, weight, torch.stack(t), torch.tensor(y), grids, padded, step)

    def _point(self, epoch: int, index: int, cropped: bool) -> tuple[Tensor, Tensor, Tensor, int]:
        generator = example_generator(self.seed, epoch, index)
        flipped, dropped = (
            torch.rand(2, generator=generator)
            < torch.tensor([self.batch.flip, self.flow.label_drop])
        ).tolist()
        mean, std = self.latents.moments(index, cropped, flipped)
        posterior, noise = torch.randn(2, *mean.shape, generator=generator)
        x, target = training_point(
            self.fit.prediction, mean + std * posterior, noise, t := self._time(generator)
        )
        tokens, target = patchify(torch.stack([x, target]), self.fit.patch_size)
        return (
            tokens,
            target,
            t,
            self.fit.null_class if dropped else int(self.labels[self.latents.labels[index]]),
        )

    def _time(self, generator: torch.Generator) -> Tensor:
        if self.fit.prediction == "epsilon":
            return torch.randint(DDPM_TIMESTEPS, (), generator=generator).float()
        flow = self.flow
        return sample_timesteps(
            1, flow.timesteps, mean=flow.mean, std=flow.std, shift=flow.shift, generator=generator
        )[0]


class MicroBatches(IterableDataset):
    """One process's micro-batches from ``position`` on, without end; each of several workers prepares every so-manieth of them."""

    def __init__(self, images: Images, position: Position, process: int, processes: int) -> None:
        self.images = images
        self.position = position
        accumulation = images.batch.accumulation
        self.share = slice(process * accumulation, (process + 1) * accumulation)
        self.packs_per_step = processes * accumulation

    def __iter__(self) -> Iterator[MicroBatch]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        return (
            self.images.micro_batch(pack, step)
            for step, pack in islice(self._packs(), first, None, stride)
        )

    def _packs(self) -> Iterator[tuple[StepTotals, Pack]]:
        images = self.images
        for step in steps_from(
            self.position, images.lengths, images.batch, images.seed, self.packs_per_step
        ):
            yield from ((step.totals, pack) for pack in step.packs[self.share])


def micro_batches(
    images: Images, position: Position, process: int, processes: int, device: torch.device
) -> Iterator[MicroBatch]:
    """The process's micro-batches on ``device``, prepared ahead by ``batch.workers``, in the same order however many there are."""
    workers = images.batch.workers
    loader = DataLoader(
        MicroBatches(images, position, process, processes),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        pin_memory=device.type == "cuda",
        worker_init_fn=leave_signals_to_the_run,
    )
    return (batch.to(device) for batch in loader)

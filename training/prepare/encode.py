"""Encode the shards of a plan: worker processes decode images, and this one runs the VAE."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from comfyui_fitv2.pixels import from_bytes

from ..data.arrow_set import EncodedExample, shard_path, write_shard
from ..data.decode import read_versions
from ..data.sources import ImageSource, evenly
from ..data.vae import VAE
from ..processes import exit_with_parent
from .plan import Plan
from .preview_colours import EXAMPLES_PER_SHARD, colour_sums, shards_to_fit

_MAX_WORKERS = 8

Versions = tuple[np.ndarray, "np.ndarray | None"]
"""A resized image and its crop, as ``decode.read_versions`` returns them."""


def encode_shards(
    source: ImageSource,
    plan: Plan,
    output: Path,
    vae: VAE,
    state: PartialState,
    *,
    image_size: int,
    batch_size: int,
    flip: bool,
    workers: int | None,
) -> None:
    """Encode and write this process's shards that do not exist yet.

    Raises ``OSError`` where memory runs out.
    """
    own = range(state.process_index, plan.shards, state.num_processes)
    missing = [number for number in own if not shard_path(output, number).exists()]
    order = [index for number in missing for index in plan.shard(number)]
    total = sum(len(plan.shard(number)) for number in own)
    if workers is None:
        workers = min(_MAX_WORKERS, max((os.cpu_count() or 1) // state.num_processes, 1))
    # The workers send arrays: tensors would pass through /dev/shm, which is small in containers.
    loader = DataLoader(
        _Decoded(source, plan, image_size),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=exit_with_parent,
    )
    which = f" {state.process_index + 1}/{state.num_processes}" if state.num_processes > 1 else ""
    with (
        _memory_errors_explained(),
        tqdm(
            total=total,
            initial=total - len(order),
            desc=f"encoding{which}",
            unit="image",
            disable=not state.is_local_main_process,
            smoothing=0.05,
        ) as progress,
    ):
        decoded = iter(loader)
        for number in missing:
            for_colours = number in shards_to_fit(plan.shards)
            shard = _Shard(plan, vae, batch_size, flip, for_colours, progress)
            for index in plan.shard(number):
                shard.add(index, next(decoded))
            write_shard(output, number, shard.examples(), shard.failures)


class _Shard:
    """Encodes images, by their index in the plan, in batches of one size.

    ``for_colours`` stores some of them with the colours to which previews are fitted.
    """

    def __init__(
        self,
        plan: Plan,
        vae: VAE,
        batch_size: int,
        flip: bool,
        for_colours: bool,
        progress: tqdm,
    ) -> None:
        self.failures: dict[str, str] = {}
        """The reason for each file that could not be encoded."""
        self._plan, self._vae, self._progress = plan, vae, progress
        self._batch_size, self._flip, self._for_colours = batch_size, flip, for_colours
        self._decoded: list[int] = []
        self._colours: dict[int, np.ndarray] = {}
        self._moments: dict[tuple[int, bool], Tensor] = {}  # by index, and whether it is cropped
        self._batches: dict[tuple[int, ...], dict[tuple[int, bool], np.ndarray]] = {}  # by size

    def add(self, index: int, decoded: Versions | str) -> None:
        """Take a decoded image, or the reason why there is none. Encodes a batch that is full."""
        if isinstance(decoded, str):
            self._fail(index, decoded)
            self._progress.update()
            return
        self._decoded.append(index)
        if self._for_colours:
            self._colours[index] = colour_sums(decoded[0])
        for cropped, image in zip((False, True), decoded, strict=True):
            if image is not None:
                batch = self._batches.setdefault(image.shape, {})
                batch[index, cropped] = image
                if len(batch) == self._batch_size:
                    self._encode(batch)

    def examples(self) -> list[EncodedExample]:
        """All that could be encoded, in the order of the plan."""
        for batch in self._batches.values():
            if batch:
                self._encode(batch)
        usable = [index for index in self._decoded if self._file(index) not in self.failures]
        with_colours = evenly(usable, EXAMPLES_PER_SHARD) if self._for_colours else []
        return [
            EncodedExample(
                self._file(index),
                int(self._plan.class_ids[index]),
                self._moments[index, False],
                self._moments.get((index, True)),
                self._colours[index] if index in with_colours else None,
            )
            for index in usable
        ]

    def _encode(self, batch: dict[tuple[int, bool], np.ndarray]) -> None:
        images = from_bytes(np.stack(list(batch.values())))
        views = [images, images.flip(-1)] if self._flip else [images]
        moments = torch.stack([self._vae.moments(view) for view in views], dim=1)
        for (index, cropped), moment in zip(batch, moments.to("cpu", torch.float16), strict=True):
            if not moment.isfinite().all():
                self._fail(
                    index, "the VAE gave infinite or undefined numbers; --precision fp32 may help"
                )
            self._moments[index, cropped] = moment
        self._progress.update(sum(not cropped for _, cropped in batch))
        batch.clear()

    def _file(self, index: int) -> str:
        return str(self._plan.files[index])

    def _fail(self, index: int, reason: str) -> None:
        file = self._file(index)
        self.failures[file] = reason
        self._progress.write(f"cannot use {file}: {reason}", file=sys.stderr)


class _Decoded(Dataset[Versions | str]):
    """Images by index in the plan, at the sizes of training, or the reason why there is none."""

    def __init__(self, source: ImageSource, plan: Plan, image_size: int) -> None:
        self.source, self.files, self.image_size = source, plan.files, image_size

    def __getitem__(self, index: int) -> Versions | str:
        try:
            return read_versions(self.source.source(str(self.files[index])), self.image_size)
        except Exception as error:  # damaged images raise anything
            return f"{error}" or type(error).__name__


def _unchanged(item: Any) -> Any:
    return item


@contextmanager
def _memory_errors_explained() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise OSError(
            "a batch of images does not fit in the memory of the device. Remove the output folder "
            "and start over with a smaller --batch-size."
        ) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(
            "a process that decodes images was killed, usually because memory ran out. Rerun with "
            "fewer --workers."
        ) from None

"""Encode the shards of a plan: worker processes decode images, and this one runs the VAE."""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from comfyui_fitv2.pixels import from_bytes

from ..data.decode import read_versions
from ..data.shards import EncodedExample, image_digest
from ..data.sources import ImageSource, evenly
from ..data.vae import VAE
from ..failures import is_out_of_memory
from ..processes import exit_with_parent
from .errors import is_cut_off
from .plan import Plan
from .preview_colours import EXAMPLES_PER_SHARD, colour_sums, shards_to_fit
from .set_folder import SetFolder

_MAX_WORKERS = 8
_SHOWN = 5
"""Images that cannot be used, of each process, that are named while it encodes."""


class Decoded(NamedTuple):
    """An image at the sizes of training."""

    resized: np.ndarray
    cropped: np.ndarray | None
    digest: bytes


class _Unreadable(str):
    """Why no image of the source can be read at present."""


def encode_shards(
    source: ImageSource,
    plan: Plan,
    output: SetFolder,
    vae: VAE,
    state: PartialState,
    *,
    image_size: int,
    batch_size: int,
    flip: bool,
    enlarge: bool,
    workers: int | None,
) -> None:
    """Encode, or copy, this process's shards that do not exist yet.

    Raises ``OSError`` where the images cannot be reached.
    """
    own = plan.shards[state.process_index :: state.num_processes]
    output.send_finished(own)
    missing = [number for number in own if not output.has_shard(number)]
    encoded = [number for number in own if plan.source(number) is None]
    order = [i for number in missing if plan.source(number) is None for i in plan.shard(number)]
    total = sum(len(plan.shard(number)) for number in encoded)
    if workers is None:
        workers = min(_MAX_WORKERS, max((os.cpu_count() or 1) // state.num_processes, 1))
    # The workers send arrays: tensors would pass through /dev/shm, which is small in containers.
    loader = DataLoader(
        _Images(source, plan, image_size, enlarge),
        batch_size=None,
        sampler=order,
        num_workers=workers if order else 0,
        collate_fn=_unchanged,
        worker_init_fn=exit_with_parent,
    )
    which = f" {state.process_index + 1}/{state.num_processes}" if state.num_processes > 1 else ""
    with tqdm(
        total=total,
        initial=total - len(order),
        desc=f"encoding{which}",
        unit="image",
        disable=not state.is_local_main_process,
        smoothing=0.05,
    ) as progress:
        decoded = iter(loader)
        failed = _Failures(progress)
        with_colours = set(shards_to_fit(plan.shards))
        for number in missing:
            if (copied_from := plan.source(number)) is not None:
                output.copy_shard(number, copied_from, plan.copied(number))
                continue
            for_colours = number in with_colours
            shard = _Shard(plan, vae, batch_size, flip, for_colours, progress, failed)
            for index in plan.shard(number):
                shard.add(index, next(decoded))
            output.write_shard(number, shard.examples(), shard.failures)
        output.wait_until_sent()
        failed.summarise()


class _Failures:
    """Names the first images that cannot be used, and counts the others."""

    def __init__(self, progress: tqdm) -> None:
        self._progress, self._count = progress, 0

    def add(self, file: str, reason: str) -> None:
        self._count += 1
        if self._count <= _SHOWN:
            self._progress.write(f"cannot use {file}: {reason}", file=sys.stderr)

    def summarise(self) -> None:
        if self._count > _SHOWN:
            self._progress.write(
                f"cannot use {self._count - _SHOWN:,} more; the report at the end lists them",
                file=sys.stderr,
            )


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
        failed: _Failures,
    ) -> None:
        self.failures: dict[str, str] = {}
        """The reason for each file that could not be encoded."""
        self._plan, self._vae, self._progress, self._failed = plan, vae, progress, failed
        self._batch_size, self._flip, self._for_colours = batch_size, flip, for_colours
        self._digests: dict[int, bytes] = {}
        self._colours: dict[int, np.ndarray] = {}
        self._moments: dict[tuple[int, bool], Tensor] = {}  # by index, and whether it is cropped
        self._batches: dict[tuple[int, ...], dict[tuple[int, bool], np.ndarray]] = {}  # by size

    def add(self, index: int, decoded: Decoded | str) -> None:
        """Take a decoded image, or the reason why there is none. Encodes a batch that is full."""
        if isinstance(decoded, _Unreadable):
            raise OSError(str(decoded))
        if isinstance(decoded, str):
            self._fail(index, decoded)
            self._progress.update()
            return
        self._digests[index] = decoded.digest
        if self._for_colours:
            self._colours[index] = colour_sums(decoded.resized)
        for cropped, image in ((False, decoded.resized), (True, decoded.cropped)):
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
        usable = [index for index in self._digests if self._file(index) not in self.failures]
        with_colours = evenly(usable, EXAMPLES_PER_SHARD) if self._for_colours else []
        return [
            EncodedExample(
                self._file(index),
                int(self._plan.labels[index]),
                self._moments[index, False],
                self._moments.get((index, True)),
                self._colours[index] if index in with_colours else None,
                self._digests[index],
            )
            for index in usable
        ]

    def _encode(self, batch: dict[tuple[int, bool], np.ndarray]) -> None:
        moments = self._moments_of(from_bytes(np.stack(list(batch.values()))))
        for (index, cropped), moment in zip(batch, moments.to("cpu", torch.float16), strict=True):
            if not moment.isfinite().all():
                self._fail(
                    index, "the VAE gave infinite or undefined numbers; --precision fp32 may help"
                )
            self._moments[index, cropped] = moment
        self._progress.update(sum(not cropped for _, cropped in batch))
        batch.clear()

    def _moments_of(self, images: Tensor) -> Tensor:
        """(images, flips, moments, channels, height, width), in two halves where memory is short.

        Raises ``torch.OutOfMemoryError``, or ``RuntimeError`` on a CPU, for one image.
        """
        views = [images, images.flip(-1)] if self._flip else [images]
        try:
            return torch.stack([self._vae.moments(view) for view in views], dim=1)
        except RuntimeError as error:
            if not is_out_of_memory(error) or len(images) == 1:
                raise
        # Not in the handler, where the error would keep the tensors.
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()
        return torch.cat([self._moments_of(half) for half in images.chunk(2)])

    def _file(self, index: int) -> str:
        return str(self._plan.files[index])

    def _fail(self, index: int, reason: str) -> None:
        file = self._file(index)
        self.failures[file] = reason
        self._failed.add(file, reason)


class _Images(Dataset[Decoded | str]):
    """Images by index in the plan, at the sizes of training, or the reason why there is none."""

    def __init__(self, source: ImageSource, plan: Plan, image_size: int, enlarge: bool) -> None:
        self.source, self.files = source, plan.files
        self.image_size, self.enlarge = image_size, enlarge

    def __getitem__(self, index: int) -> Decoded | str:
        file = str(self.files[index])
        try:
            versions = read_versions(
                self.source.source(file), self.image_size, enlarge=self.enlarge
            )
            return Decoded(*versions, image_digest(self.source.source(file)))
        except Exception as error:  # damaged images raise anything
            reason = f"{error}" or type(error).__name__
            if is_cut_off(error, self.source.root):
                return _Unreadable(
                    f"{self.source.root} cannot be read at present ({reason}). Is the drive or the "
                    "network share connected?"
                )
            return reason


def _unchanged(item: Any) -> Any:
    return item

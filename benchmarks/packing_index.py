"""Memory of each process, and time to the first step, of packing millions of images.

    python -m benchmarks.packing_index --images 1281167 20000000

Training processes and their data workers start as in training, but make no model and read no
latents. A process is asked for the memory that is its own alone (USS), less what it had before it
opened the index. What processes share counts nowhere: the index and the order of an epoch, which
are files that all of them map.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import torch
from torch import Tensor

from comfyui_fitv2.config import FiTConfig
from training.data.latent_set import LatentSet
from training.data.set_index import SetIndex
from training.train.config import BatchConfig, FlowConfig
from training.train.packing import Position
from training.train.training_set import MicroBatches, TrainingSet

STEPS = 20


class IndexAlone(LatentSet):
    """A set without latents."""

    def __init__(self, file: Path) -> None:
        self.index = SetIndex.map(file)
        self.class_ids, self.grids = self.index.labels, self.index.grids

    @property
    def lengths(self) -> np.ndarray:
        return self.index.lengths

    def names(self) -> list[str]:
        return self.index.names.to_pylist()

    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def write_index(folder: Path, images: int) -> Path:
    """The index of a set with sizes like ImageNet's at 256 pixels."""
    random = np.random.default_rng(0)
    rows = random.integers(8, 17, images, dtype=np.int32)
    grids = np.empty((images, 2, 2), np.int32)
    grids[:, 0] = np.stack([rows, 256 // rows], axis=1)
    grids[:, 1] = np.where((random.random(images) < 0.33)[:, None], 16, grids[:, 0])
    labels = random.integers(0, 1000, images, dtype=np.int32)
    lengths = grids.prod(axis=-1, dtype=np.int32)
    names = pa.array(np.char.add("n01440764/", np.arange(images).astype(str)), pa.large_string())
    SetIndex(labels, grids, lengths, names).write(folder)
    (file,) = folder.glob("index-*.arrow")
    return file


def own_mib() -> float:
    """Memory of this process that no other one shares."""
    return psutil.Process().memory_full_info().uss / 2**20


def examples(file: Path) -> TrainingSet:
    config = FiTConfig.preset("fitv2-b")
    batch = BatchConfig(token_budget=16384, workers=2)
    return TrainingSet(IndexAlone(file), config, FlowConfig(), batch, 0, np.arange(1000))


def pack(examples: TrainingSet, process: int, processes: int, answer: Connection) -> None:
    """What a data worker does, without latents; answers its seconds and its own memory."""
    before, started = own_mib(), time.perf_counter()
    packs = MicroBatches(examples, Position(), process, processes)._packs()
    next(packs)
    first = time.perf_counter() - started
    started = time.perf_counter()
    for _ in islice(packs, STEPS):
        pass
    answer.send((first, (time.perf_counter() - started) / STEPS, own_mib() - before))
    answer.recv()


def train(file: Path, process: int, processes: int, workers: int, answer: Connection) -> None:
    """A training process with its data workers; answers their measurements and its own memory."""
    before = own_mib()
    opened = examples(file)
    opened.draws.share()
    own = own_mib() - before  # without what its workers share afterwards
    context = multiprocessing.get_context("fork")
    pipes, started = [], []
    for _ in range(workers):
        here, there = context.Pipe()
        worker = context.Process(target=pack, args=(opened, process, processes, there))
        worker.start()
        pipes.append(here)
        started.append(worker)
    measured = [pipe.recv() for pipe in pipes]
    answer.send((own, measured))
    answer.recv()
    for pipe, worker in zip(pipes, started, strict=True):
        pipe.send(None)
        worker.join()


def measure(images: int, processes: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TMPDIR"] = scratch  # of the processes that start below
        file = write_index(Path(scratch), images)
        context = multiprocessing.get_context("spawn")
        pipes, started = [], []
        for process in range(processes):
            here, there = context.Pipe()
            one = context.Process(target=train, args=(file, process, processes, workers, there))
            one.start()
            pipes.append(here)
            started.append(one)
        answers = [pipe.recv() for pipe in pipes]
        of_workers = [measured for _, found in answers for measured in found]
        first, step, own = (max(column) for column in zip(*of_workers, strict=True))
        shared = sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file())
        print(
            f"{images:>12,} {processes:>9} {workers:>8} {first:>10.2f} {step * 1e3:>8.2f} "
            f"{max(memory for memory, _ in answers):>12.0f} {own:>11.0f} {shared / 2**20:>11.0f}"
        )
        for pipe, one in zip(pipes, started, strict=True):
            pipe.send(None)
            one.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[1_281_167])
    parser.add_argument("--processes", type=int, default=2, help="training processes")
    parser.add_argument("--workers", type=int, default=2, help="data workers of each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'images':>12} {'processes':>9} {'workers':>8} {'first (s)':>10} {'ms/step':>8} "
        f"{'process MiB':>12} {'worker MiB':>11} {'shared MiB':>11}"
    )
    for images in arguments.images:
        measure(images, arguments.processes, arguments.workers)


if __name__ == "__main__":
    main()

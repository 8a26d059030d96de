"""Training from an S3 server of this machine ÷ from its disk, in tokens per second.

    python -m benchmarks.object_storage

Each time covers opening the set, starting the data workers, and some steps of training. "warm" has
all shards in the cache; "cold" starts with an empty one and fetches and verifies them. Goals: warm
0.95, cold 0.8. A cold start costs the transfer of the shards once, so its share of a longer run is
smaller. Needs the packages s3fs and moto.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from support.latent_sets import make_latent_set
from support.object_store import BUCKET, s3_server
from support.remote_sets import sent

from training.data import open_latent_set
from training.data.node_cache import NodeCache
from training.train.config import CacheConfig, TrainingConfig
from training.train.config_parser import parse_config
from training.train.run import TrainingRun
from training.train.step import training_step
from training.train.training_set import micro_batches

from .timing import interleaved, ratio
from .train import CLASSES, GRIDS

EXAMPLES_PER_CLASS = 800
SHARD_SIZE = 400


def serve(answer: Connection) -> None:
    with s3_server() as variables:
        answer.send(variables)
        answer.recv()


@contextmanager
def server() -> Iterator[None]:
    """An S3 server in a process of its own, in the environment of this one."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,))
    process.start()
    try:
        os.environ.update(here.recv())
        yield
    finally:
        here.send(None)
        process.join()


def training(config: TrainingConfig, steps: int) -> Callable[[], object]:
    """Some steps of a model that is made once, with a set that is opened each time."""
    run = TrainingRun(config)

    def train() -> None:
        cache = NodeCache.chosen(config.cache.folder, config.cache.gigabytes)
        latents = open_latent_set(config.data, cache)
        examples = replace(run.examples, latents=latents)
        process, processes = run.accelerator.process_index, run.accelerator.num_processes
        batches = micro_batches(
            examples, run.state.position, process, processes, run.accelerator.device
        )
        for batch in islice(batches, steps):
            training_step(
                run.accelerator,
                run.model,
                run.optimizers,
                [batch],
                config.optimizer.gradient_clip,
                run.state.guard,
            )
        batches.close()

    return train


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="tiny", help="name in training/configs")
    parser.add_argument("--tokens", type=int, default=4096, help="token budget of a step")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, server():
        folder = Path(scratch)
        local = make_latent_set(
            folder / "latents", GRIDS, CLASSES, EXAMPLES_PER_CLASS, shard_size=SHARD_SIZE
        )
        size = sum(path.stat().st_size for path in local.glob("shard-*"))
        address = sent(local, f"s3://{BUCKET}/latents")

        def of(data: str, name: str) -> Callable[[], object]:
            options = ["--config", arguments.config, "--data", data, "--logging.tracker", "none"]
            config = parse_config([*options, "--output", str(folder / name)])
            batch = replace(config.batch, token_budget=arguments.tokens, accumulation=1)
            cache = CacheConfig(folder=str(folder / f"{name}-cache"))
            return training(replace(config, batch=batch, cache=cache), arguments.steps)

        runs = {"local": of(str(local), "local"), "warm": of(address, "warm")}
        from_nothing = of(address, "cold")

        def cold() -> None:
            shutil.rmtree(folder / "cold-cache", ignore_errors=True)
            from_nothing()

        times = interleaved({**runs, "cold": cold}, arguments.rounds, warm_up=1)
        print(f"{size / 2**20:.0f} MiB in shards, {arguments.steps} steps of {arguments.tokens}")
        for name in ("local", "warm", "cold"):
            rate = arguments.steps * arguments.tokens / min(times[name])
            against = f"{ratio(times, 'local', name):6.2f} of local" if name != "local" else ""
            print(f"{name:6} {rate:8.0f} tokens/s {against}")


if __name__ == "__main__":
    main()

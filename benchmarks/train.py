"""A training step: packed ÷ padded, model FLOPs utilisation, and how well data loading hides.

    python -m benchmarks.train

Examples of six sizes, of which a padded batch would be 70 % full. Utilisation is the arithmetic
that the model cannot do without (``training.train.flops``) ÷ time ÷ the machine's rate of bf16
matrix products, measured in the same run. "loaded" is the rate with batches that are read and
prepared during training ÷ that with batches in memory. Goals on a CPU: packed 1.3 × padded,
utilisation 0.45 for FiTv2-B, loaded 0.97.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import torch
from support.latent_sets import make_latent_set

from training.train.config import TrainingConfig
from training.train.config_parser import parse_config
from training.train.flops import TrainingCost, matmul_rate
from training.train.run import TrainingRun
from training.train.step import training_step
from training.train.training_set import MicroBatch

from .timing import DEVICE, interleaved, ratio

GRIDS = ((16, 16), (12, 16), (10, 16), (8, 14), (16, 12), (11, 15))
LONGEST = 256
"""Tokens of the longest example."""
CLASSES, EXAMPLES_PER_CLASS = 3, 400


@dataclass(frozen=True)
class Steps:
    """Training steps of one configuration."""

    kept: Callable[[], object]
    """One on batches in memory."""
    loaded: Callable[[], object]
    """One on batches from disk."""
    flops: float
    """Of an average step."""
    tokens: int
    """Of an average step."""


def steps(config: TrainingConfig) -> Steps:
    run = TrainingRun(config)
    kept = list(islice(run.batches, 8))
    totals = [batch.step for batch in kept]
    model = run.initial.model
    cost = TrainingCost.of(model, model.config.hidden_size, model.config.depth)

    def step(batches: Iterator[MicroBatch]) -> Callable[[], object]:
        return lambda: training_step(
            run.accelerator,
            run.model,
            run.optimizers,
            [next(batches)],
            config.optimizer.gradient_clip,
            run.state.guard,
        )

    return Steps(
        step(cycle(kept)),
        step(run.batches),
        sum(map(cost.flops, totals)) / len(kept),
        sum(total.tokens for total in totals) // len(kept),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--configs", nargs="+", default=["tiny", "fitv2-b"], help="names of training/configs"
    )
    parser.add_argument("--tokens", type=int, default=4096, help="token budget of a step")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{arguments.tokens} tokens per step, bf16, {torch.get_num_threads()} threads")
    print(
        f"{'config':10} {'packing':8} {'tokens/s':>9} {'utilisation':>12} {'÷ padded':>9}"
        f" {'loaded':>7}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_latent_set(
            folder / "latents",
            GRIDS,
            CLASSES,
            EXAMPLES_PER_CLASS,
            shard_size=CLASSES * EXAMPLES_PER_CLASS,
        )
        for name in arguments.configs:
            _measure(name, folder, arguments.tokens, arguments.rounds)


def _measure(name: str, folder: Path, tokens: int, rounds: int) -> None:
    def steps_with(packing: Literal["packed", "padded"]) -> Steps:
        data, output = folder / "latents", folder / f"{name}-{packing}"
        options = ["--config", name, "--data", str(data), "--output", str(output)]
        config = parse_config([*options, "--logging.tracker", "none"])
        batch = replace(
            config.batch,
            packing=packing,
            token_budget=tokens,
            images=tokens // LONGEST,
            accumulation=1,
        )
        return steps(replace(config, batch=batch))

    packed, padded = steps_with("packed"), steps_with("padded")
    times = interleaved(
        {"packed": packed.kept, "padded": padded.kept, "loaded": packed.loaded}, rounds
    )
    rate = matmul_rate(torch.device(DEVICE))
    gain = ratio(times, "padded", "packed") * packed.tokens / padded.tokens
    gains = f"{gain:9.2f} {ratio(times, 'packed', 'loaded'):7.2f}"
    for packing, run, more in (("packed", packed, gains), ("padded", padded, "")):
        best = min(times[packing])
        measured = f"{run.tokens / best:9.0f} {run.flops / best / rate:12.2f}"
        print(f"{name:10} {packing:8} {measured} {more}", flush=True)


if __name__ == "__main__":
    main()

"""A training step: packed ÷ padded, model FLOPs utilisation, and how well data loading hides.

    python -m benchmarks.train
    git clone https://github.com/whlzy/FiT ../FiT && pip install timm einops
    OMP_NUM_THREADS=1 python -m benchmarks.train --public ../FiT --configs tiny

Examples of six sizes, of which a padded batch would be 70 % full. Utilisation is the arithmetic
that the model cannot do without (``training.train.flops``) ÷ time ÷ the machine's rate of bf16
matrix products, measured in the same run. "loaded" is the rate with batches that are read and
prepared during training ÷ that with batches in memory. Goals on a CPU: packed 1.3 × padded,
utilisation 0.45 for FiTv2-B, loaded 0.97.

With ``--public`` only a step ÷ the published code's step is measured, of the same weights on the
same batch, in bf16 with clipping, AdamW and one average. The time is that of the processor: a busy
machine changes it less than the time on the wall. Goal 0.55.
"""

from __future__ import annotations

import argparse
import tempfile
import time
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

from .public_code import EMA_DECAY, PublicStep
from .timing import DEVICE, interleaved, ratio

GRIDS = ((16, 16), (12, 16), (10, 16), (8, 14), (16, 12), (11, 15))
PUBLIC_GRIDS = ((16, 16), (13, 19), (12, 20), (14, 18), (18, 13), (11, 22))
"""What is made of photographs: 245 tokens on average, so that little of a padded batch is empty."""
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
    parser.add_argument("--public", type=Path, help="a checkout of the published code")
    arguments = parser.parse_args()
    if arguments.public:
        for name in arguments.configs:
            _against_public(name, arguments.public, arguments.tokens, arguments.rounds)
        return
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


def _against_public(name: str, checkout: Path, tokens: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        data, output = Path(scratch) / "latents", Path(scratch) / "run"
        make_latent_set(data, PUBLIC_GRIDS, CLASSES, EXAMPLES_PER_CLASS, shard_size=10_000)
        options = ["--config", name, "--data", str(data), "--output", str(output)]
        options += ["--batch.token-budget", str(tokens), "--batch.workers", "0"]
        options += ["--ema-decays", str(EMA_DECAY), "--logging.tracker", "none"]
        run = TrainingRun(parse_config(options))
        batch, model = next(run.batches), run.state.model
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():  # a new model answers 0, and most gradients are 0
                    parameter.normal_(std=0.02)
        public = PublicStep(checkout, model.config, model.state_dict(), batch)

        def step() -> torch.Tensor:
            clip = run.config.optimizer.gradient_clip
            guard = run.state.guard
            result = training_step(run.accelerator, run.model, run.optimizers, [batch], clip, guard)
            run.state.advance(batch.step, result)
            return result.loss

        losses = f"first losses {float(step()):.4f} and {float(public()):.4f}"
        times = interleaved({"ours": step, "public": public}, rounds, clock=time.process_time)
    pairs = [a / b for a, b in zip(times["ours"], times["public"], strict=True)]
    print(
        f"{name}: a step on {len(batch.grids)} images of {batch.step.tokens} tokens ÷ the "
        f"published code's: {ratio(times, 'ours', 'public'):.2f} (of {rounds}: {min(pairs):.2f} to "
        f"{max(pairs):.2f}); {losses}"
    )


if __name__ == "__main__":
    main()

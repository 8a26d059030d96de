"""A training step: packed ÷ padded, model FLOPs utilisation, and how well data loading hides behind it.

    python -m benchmarks.train

Images of six sizes, of which a padded batch would be 70 % full. Utilisation is the arithmetic that the model cannot do without
(``training.flops``) ÷ time ÷ the machine's bf16 matrix product rate, measured in the same run. "loaded" is the rate with batches read
and prepared beside the training ÷ that of batches that lie ready in memory. Goals on a CPU: packed 1.3 × padded, utilisation
0.45 for FiTv2-B, loaded 0.97.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import torch

from training.data.latent_set import (
    PATCH,
    EncodedPicture,
    LatentSet,
    LatentSetInfo,
    finish,
    write_shard,
)
from training.train.accelerator import make_accelerator
from training.train.batches import Images, MicroBatch, micro_batches
from training.train.config import TrainingConfig
from training.train.config_parser import parse_config
from training.train.flops import TrainingCost, matmul_rate
from training.train.initial_model import start_of
from training.train.optimizer import StepGuard, make_optimizer
from training.train.packing import Position
from training.train.step import training_step

from .timing import interleaved, ratio

GRIDS = ((16, 16), (12, 16), (10, 16), (8, 14), (16, 12), (11, 15))
LONGEST = 256
IMAGES = 1200


def make_latents(folder: Path) -> LatentSet:
    """A set of random moments."""
    generator = torch.Generator().manual_seed(0)
    shard = [
        EncodedPicture(
            f"{i}.png",
            i % 3,
            torch.randn(2, 2, 4, rows * PATCH, columns * PATCH, generator=generator).abs(),
            None,
        )
        for i, (rows, columns) in enumerate(islice(cycle(GRIDS), IMAGES))
    ]
    folder.mkdir()
    write_shard(folder, 0, shard)
    finish(
        folder,
        LatentSetInfo(("a", "b", "c"), 4, LONGEST, {"scale_factor": 1.0}, "random", True, True),
        1,
    )
    return LatentSet.open(folder)


def steps(
    config: TrainingConfig, latents: LatentSet
) -> tuple[Callable[[], object], Callable[[], object], float, int]:
    """A training step on prepared batches, one on loaded batches, and FLOPs and tokens of an average step."""
    accelerator = make_accelerator(config)
    start = start_of(config, latents.info)
    model, optimizer = accelerator.prepare(
        start.model, make_optimizer(dict(start.model.named_parameters()), config.optimizer)
    )
    fit = start.model.config
    images = Images(latents, fit, config.flow, config.batch, config.seed, start.labels)
    loaded = micro_batches(images, Position(), 0, 1, accelerator.device)
    kept = list(islice(loaded, 8))
    totals = [batch.step for batch in kept]
    cost = TrainingCost.of(start.model, fit.hidden_size, fit.depth)

    def step(batches: Iterator[MicroBatch]) -> Callable[[], object]:
        return lambda: training_step(
            accelerator,
            model,
            optimizer,
            [next(batches)],
            config.optimizer.gradient_clip,
            StepGuard(config.guard),
        )

    return (
        step(cycle(kept)),
        step(loaded),
        sum(map(cost.flops, totals)) / len(kept),
        sum(t.tokens for t in totals) // len(kept),
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
    print(f"{arguments.tokens} tokens a step, bf16, {torch.get_num_threads()} threads")
    print(
        f"{'config':10} {'packing':8} {'tokens/s':>9} {'utilisation':>12} {'÷ padded':>9} {'loaded':>7}"
    )
    with tempfile.TemporaryDirectory() as scratch:
        latents = make_latents(Path(scratch) / "latents")
        for name in arguments.configs:
            config = parse_config(
                [
                    "--config",
                    name,
                    "--data",
                    str(Path(scratch) / "latents"),
                    "--output",
                    str(Path(scratch) / name),
                    "--logging.tracker",
                    "none",
                ]
            )
            batch = replace(
                config.batch,
                token_budget=arguments.tokens,
                images=arguments.tokens // LONGEST,
                accumulation=1,
            )
            runs = {
                packing: steps(replace(config, batch=replace(batch, packing=packing)), latents)
                for packing in ("packed", "padded")
            }
            functions: dict[str, Callable[[], object]] = {
                packing: run[0] for packing, run in runs.items()
            }
            functions["loaded"] = runs["packed"][1]
            times = interleaved(functions, arguments.rounds)
            rate = matmul_rate(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
            for packing, (_, _, flops, tokens) in runs.items():
                best = min(times[packing])
                more = ""
                if packing == "packed":
                    gain = ratio(times, "padded", "packed") * tokens / runs["padded"][3]
                    more = f"{gain:9.2f} {ratio(times, 'packed', 'loaded'):7.2f}"
                print(
                    f"{name:10} {packing:8} {tokens / best:9.0f} {flops / best / rate:12.2f} {more}",
                    flush=True,
                )


if __name__ == "__main__":
    main()

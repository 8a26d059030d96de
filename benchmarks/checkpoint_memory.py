"""Saving a run: the memory that it takes, and how long training waits for it.

    python -m benchmarks.checkpoint_memory
    python -m benchmarks.checkpoint_memory --before ../before    an older checkout, too

One process saves whole tensors; 2 and 4 (gloo, FSDP2) save their slices. "memory" is the peak of
what a process takes while a checkpoint is saved ÷ the weights, averages and optimizer state that it
holds; the largest of all processes. "waits" are the seconds until training goes on, and "written"
those until the checkpoint is complete; "steps" is the time of a training step while it is written ÷
before. Linux only: the kernel counts the peak. Goal: memory 1.2.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

HERE = Path(__file__).parents[1]
MODEL = ["--model.hidden_size=512", "--model.depth=14", "--model.num_heads=8"]
MODEL += ["--model.adaln_lora_dim=128"]
PROCESSES = (1, 2, 4)
STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", type=Path, help="another checkout to measure, too")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are shown")
    parser.add_argument("--processes", type=int, nargs="+", default=PROCESSES)
    options = parser.parse_args()
    checkouts = {"now": HERE, **({"before": options.before.resolve()} if options.before else {})}
    print(f"{'':10} {'processes':>9} {'memory':>7} {'waits, s':>9} {'written, s':>11} {'steps':>6}")
    for processes in options.processes:
        found: dict[str, list[dict[str, float]]] = {name: [] for name in checkouts}
        for _ in range(options.rounds):
            for name, checkout in checkouts.items():
                found[name].append(measured(checkout, processes))
        for name, rounds in found.items():
            middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            print(
                f"{name:10} {processes:9} {middle['memory']:7.2f} {middle['waits']:9.2f} "
                f"{middle['written']:11.2f} {middle['steps']:6.2f}",
                flush=True,
            )


def measured(checkout: Path, processes: int) -> dict[str, float]:
    """The figures of one run, the worst of its processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, *(launcher if processes > 1 else []), __file__, "--in", folder],
            check=True,
            cwd=checkout,
            env={
                **os.environ,
                # All of that checkout; what shards, which older ones lack, of this one.
                "PYTHONPATH": os.pathsep.join(
                    map(str, (checkout, checkout / "tests", HERE / "tests" / "support"))
                ),
                "OMP_NUM_THREADS": "1",
                "ACCELERATE_USE_CPU": "true",
                "TQDM_DISABLE": "1",
                "PYTHONWARNINGS": "ignore",
            },
            stdout=subprocess.DEVNULL,
        )
        each = [json.loads(path.read_text()) for path in Path(folder).glob("process-*.json")]
    assert len(each) == processes
    return {key: max(figures[key] for figures in each) for key in each[0]}


def process(folder: Path) -> None:
    """Train some steps, and measure a save; writes this process's figures into ``folder``."""
    from support.latent_sets import make_latent_set

    from training.train.accelerator import make_accelerator
    from training.train.config_parser import parse_config
    from training.train.run import TrainingRun
    from training.train.step import training_step

    number, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    data = folder / f"data{number}"  # of its own: no process waits for another
    make_latent_set(data, ((8, 8),), classes=2, per_class=8)
    words = ["--data", str(data), "--output", str(folder / "run"), *MODEL]
    words += ["--precision=fp32", "--batch.token_budget=64", "--batch.workers=0"]
    words += ["--ema_decays=0.999", "--steps=100", "--samples.every=0", "--logging.tracker=none"]
    config = parse_config(words)
    shards = import_module("sharded_run").sharded_accelerator
    run = TrainingRun(config, (shards if count > 1 else make_accelerator)(config))
    state = run.state

    def step() -> float:
        started = time.perf_counter()
        batches = list(islice(run.batches, 1))
        result = training_step(
            run.accelerator, run.model, run.optimizers, batches, 1.0, state.guard
        )
        state.advance(batches[-1].step, result)
        return time.perf_counter() - started

    alone = min(step() for _ in range(STEPS))
    run.accelerator.wait_for_everyone()
    before = start_counting()
    started = time.perf_counter()
    run.save()
    waits = time.perf_counter() - started
    saver = getattr(run, "saver", None)
    if saver is not None:
        saver.wait()
    written = time.perf_counter() - started
    memory = (peak() - before) / share(run)

    during = [alone]
    if saver is not None and count > 1:
        step()  # another step has another name
        run.save()
        during = [step() for _ in range(STEPS)]
        saver.wait()
    figures = {"memory": memory, "waits": waits, "written": written, "steps": min(during) / alone}
    (folder / f"process-{number}.json").write_text(json.dumps(figures))
    sys.stdout.flush()
    run.accelerator.wait_for_everyone()
    os._exit(0)  # gloo's threads may outlive the interpreter


def share(run: object) -> int:
    """Bytes of the state that this process holds."""
    state = run.state  # pyright: ignore[reportAttributeAccessIssue]
    moments = [
        value
        for optimizer in state.optimizers
        for values in optimizer.state.values()
        for value in values.values()
    ]
    averages = [value for average in state.ema.averages.values() for value in average.values()]
    return sum(_bytes([*state.model.parameters(), *averages, *moments]))


def _bytes(tensors: Sequence[Tensor]) -> Iterable[int]:
    return ((t.to_local() if isinstance(t, DTensor) else t).nbytes for t in tensors)


def start_counting() -> int:
    """Forget the peak so far; returns the memory that the process has now, in bytes."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> int:
    """The most memory that the process has had since ``start_counting``, in bytes."""
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--in"]:
        process(Path(sys.argv[2]))
    else:
        main()

"""Small training runs, for tests: seconds on one core."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from torch import Tensor

from training.train.checkpoints.reader import latest, read_tensors
from training.train.config import TrainingConfig
from training.train.config_parser import parse_config

ROOT = Path(__file__).parents[2]
MODEL = [
    "--model.hidden_size=32",
    "--model.depth=2",
    "--model.num_heads=2",
    "--model.adaln_lora_dim=8",
]
QUIET = ["--samples.every=0", "--logging.tracker=none", "--logging.no-utilisation"]
SMALL = [
    "--precision=fp32",
    "--batch.token_budget=64",
    "--batch.workers=0",
    "--optimizer.learning_rate=1e-3",
    "--optimizer.warmup_steps=3",
    *QUIET,
]


def arguments(data: Path, output: Path, *options: str, model: Sequence[str] = MODEL) -> list[str]:
    """The command line of a small fp32 run; ``options`` win."""
    folders = ["--data", str(data), "--output", str(output)]
    return [*folders, *model, *SMALL, "--ema_decays", "0.99", "0.9", "--steps=6", *options]


def small_config(
    data: Path, output: Path, *options: str, model: Sequence[str] = MODEL
) -> TrainingConfig:
    return parse_config(arguments(data, output, *options, model=model))


def start_training(
    options: Sequence[str], *launcher: str, script: Sequence[str] = ("-m", "training.train")
) -> subprocess.Popen[str]:
    """The command in a process of its own, or in those of a launcher."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "TQDM_DISABLE": "1",
    }
    command = [sys.executable, *launcher, *script, *options]
    # A session of its own, so that `kill` can end all of it; Windows ignores the argument.
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """The output of a process that must end well."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def kill(process: subprocess.Popen[str]) -> None:
    """End a process at once, with the processes that it started."""
    if sys.platform == "win32":
        subprocess.run(
            ["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True
        )
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)


def survivors(run: Path) -> list[psutil.Process]:
    """The processes of a run that are there still."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(run) in (process.info["cmdline"] or ())
    ]


def torchrun(processes: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]


def weights(run: Path, name: str = "model") -> dict[str, Tensor]:
    """The tensors of a file of the newest checkpoint, whether it is in parts or not."""
    return weights_at(latest(run), name)


def weights_at(checkpoint: Path, name: str) -> dict[str, Tensor]:
    return read_tensors(checkpoint, f"{name}.safetensors")


def farthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The greatest difference between values."""
    assert a.keys() == b.keys()
    return max(float((a[key] - b[key]).abs().max()) for key in a)


def identical(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)

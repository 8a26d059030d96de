"""Sampling with the stock KSampler in ComfyUI ÷ ``sample()`` in a process of its own.

    python -m benchmarks.host

Both make a 256 × 256 image from the same noise with the same guided Euler steps. They take turns,
each turn with another seed, with the same number of threads and the precision that ComfyUI chooses.
KSampler's time is from its start to the start of the next node, as the server reports them; first
runs are not counted. "difference" is the largest difference between the latents of the two, ÷ their
RMS. ComfyUI makes no previews unless asked to: the last two columns are with previews.

Goals without previews: 1.05 for FiTv2-XL with random weights, 1.25 for the bundled model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from support.graph import Graph
from support.live_client import LiveClient
from torch import Tensor
from tqdm import tqdm

from comfyui_fitv2 import FiTConfig, LoadedModel, load_checkpoint, sample
from comfyui_fitv2.metadata import SD_LATENT_FORMAT
from comfyui_fitv2.resolution import VAE_FACTOR
from devkit.environment import DEV
from devkit.host import find_host
from devkit.server import Server
from training.data.bundled import BUNDLED_CHECKPOINT

from .node_times import run_timed
from .random_model import save_random
from .timing import DEVICE, ratio

SIDE = 256
"""Of the image, in pixels."""
GUIDANCE_SCALE = 2.0
WARM_UP = 2
COLUMNS = ("sample()", "KSampler", "with previews")

_loaded: LoadedModel
"""The model of the process without ComfyUI."""


class Subject(NamedTuple):
    checkpoint: Path
    steps: int
    class_id: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--comfyui", type=Path, help="your own ComfyUI instead of the one in .dev")
    arguments = parser.parse_args()
    host = find_host(arguments.comfyui, None)
    DEV.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=DEV, prefix="host-") as folder,
        tqdm(total=2 * (WARM_UP + arguments.rounds), leave=False) as progress,
    ):
        base = Path(folder)
        large = base / "models" / "fit" / "fitv2-xl.safetensors"
        save_random(large, FiTConfig.preset("fitv2-xl"))
        rows = []
        with Server(host, base) as server:
            for subject in (Subject(large, 2, 207), Subject(BUNDLED_CHECKPOINT, 20, 16)):
                spawn = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(1, spawn, _load, (subject.checkpoint,)) as bare:
                    rows.append(_compare(subject, server, bare, arguments.rounds, progress.update))
    print(f"{torch.get_num_threads()} threads, medians of {arguments.rounds}. Goals: 1.05 and 1.25")
    print(
        f"{'model':18} {'steps':>5} {'sample() s':>11} {'KSampler s':>11} {'ratio':>6} "
        f"{'difference':>11} {'with previews s':>16} {'ratio':>6}"
    )
    print("\n".join(rows))


def _compare(
    subject: Subject,
    server: Server,
    bare: ProcessPoolExecutor,
    rounds: int,
    progress: Callable[[], object],
) -> str:
    client = LiveClient(server.url)
    times: dict[str, list[float]] = {name: [] for name in COLUMNS}
    difference = 0.0
    for turn in range(WARM_UP + rounds):
        seed = 2 * turn
        plain, seconds, scale = bare.submit(_sample, subject.steps, subject.class_id, seed).result()
        latents, in_host = _sample_in_host(server, client, subject, seed, "none")
        _, with_previews = _sample_in_host(server, client, subject, seed + 1, "auto")
        largest = (latents * scale - plain).abs().max() / plain.square().mean().sqrt()
        difference = max(difference, largest.item())
        if turn >= WARM_UP:
            for name, value in zip(COLUMNS, (seconds, in_host, with_previews), strict=True):
                times[name].append(value)
        progress()
    plain_s, host_s, previews_s = (statistics.median(times[name]) for name in COLUMNS)
    return (
        f"{subject.checkpoint.stem:18} {subject.steps:5} {plain_s:11.3f} {host_s:11.3f} "
        f"{ratio(times, 'KSampler', 'sample()'):6.3f} {difference:11.1e} {previews_s:16.3f} "
        f"{ratio(times, 'with previews', 'sample()'):6.3f}"
    )


def _sample_in_host(
    server: Server, client: LiveClient, subject: Subject, seed: int, preview_method: str
) -> tuple[Tensor, float]:
    """Latents in the host's scale, and the seconds that KSampler took."""
    graph = Graph()
    loader = graph.loader(subject.checkpoint.name, weight_dtype="auto")
    sampler = graph.ksampler(
        loader[0],
        graph.label(loader[0], str(subject.class_id)),
        graph.size(SIDE, SIDE)[0],
        seed=seed,
        steps=subject.steps,
        cfg=GUIDANCE_SCALE,
    )
    saved = graph.add("SaveLatent", samples=sampler[0], filename_prefix="benchmark")
    run, seconds = run_timed(client, graph.prompt, sampler.id, preview_method)
    (file,) = run.outputs[saved.id]["latents"]
    path = server.base / "output" / file["subfolder"] / file["filename"]
    return load_file(path)["latent_tensor"], seconds


def _load(checkpoint: Path) -> None:
    """Load the model of this process, in the precision that the host chooses."""
    global _loaded
    dtype = torch.bfloat16 if DEVICE == "cuda" else torch.float32
    _loaded = load_checkpoint(checkpoint, dtype=dtype)
    _loaded.model.requires_grad_(False).to(DEVICE)


def _sample(steps: int, class_id: int, seed: int) -> tuple[Tensor, float, float]:
    """Latents in the model's scale, the seconds they took, and that scale."""
    started = time.perf_counter()
    shape = 1, _loaded.config.in_channels, SIDE // VAE_FACTOR, SIDE // VAE_FACTOR
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    y = torch.tensor([class_id])
    latents = sample(_loaded.model, noise, y, "euler", steps, GUIDANCE_SCALE).cpu()
    seconds = time.perf_counter() - started
    return latents, seconds, (_loaded.latent_format or SD_LATENT_FORMAT).scale_factor


if __name__ == "__main__":
    main()

"""Drawing with the stock KSampler in ComfyUI ÷ ``sample()`` in a process of its own.

    python -m benchmarks.host

Both draw a 256 × 256 picture from the same noise by the same Euler steps with guidance, in turn, each time from another seed, and
with the same number of threads; the precision is the one that ComfyUI chooses. KSampler's time is from its start to the start of the next node, as the
server reports them; first runs are not counted. "difference" is the greatest one between the latents of the two, ÷ their RMS. ComfyUI shows no
previews unless it is asked to: the last two columns are with them.

Goals without previews: 1.05 for FiTv2-XL with random weights, 1.25 for the model that comes with the pack.
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
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from support.live_client import LiveClient
from torch import Tensor
from tqdm import tqdm

from comfyui_fitv2 import FiTConfig, LoadedModel, load_checkpoint, sample
from devkit.environment import DEV, ROOT, find_host
from devkit.server import Server

from .node_times import run_timed
from .random_model import save_random
from .timing import ratio

BUNDLED = next((ROOT / "models" / "fit").glob("*.safetensors"))
SIDE = 32
GUIDANCE = 2.0
WARM_UP = 2
SD_SCALE = 0.18215
"""From the host's latents to those of a model that names no scale."""


_loaded: LoadedModel
"""The model of a bare process."""


class Subject(NamedTuple):
    checkpoint: Path
    steps: int
    class_id: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--comfyui", type=Path, help="your own ComfyUI, in place of the one in .dev"
    )
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
            for subject in (Subject(large, 2, 207), Subject(BUNDLED, 20, 16)):
                with ProcessPoolExecutor(
                    1, multiprocessing.get_context("spawn"), _load, (subject.checkpoint,)
                ) as bare:
                    rows.append(_compare(subject, server, bare, arguments.rounds, progress.update))
    print(f"{torch.get_num_threads()} threads, medians of {arguments.rounds}. Goals: 1.05 and 1.25")
    print(
        f"{'model':18} {'steps':>5} {'sample() s':>11} {'KSampler s':>11} {'ratio':>6} {'difference':>11} {'with previews s':>16} {'ratio':>6}"
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
    times: dict[str, list[float]] = {"sample()": [], "KSampler": [], "with previews": []}
    difference = 0.0
    for turn in range(WARM_UP + rounds):
        plain, seconds, scale = bare.submit(
            _draw, subject.steps, subject.class_id, 2 * turn
        ).result()
        drawn, in_host = _draw_in_host(server, client, subject, 2 * turn, "none")
        _, with_previews = _draw_in_host(server, client, subject, 2 * turn + 1, "auto")
        difference = max(
            difference, ((drawn * scale - plain).abs().max() / plain.square().mean().sqrt()).item()
        )
        if turn >= WARM_UP:
            for measured, value in zip(
                times.values(), (seconds, in_host, with_previews), strict=True
            ):
                measured.append(value)
        progress()
    median = {name: statistics.median(values) for name, values in times.items()}
    return (
        f"{subject.checkpoint.stem:18} {subject.steps:5} {median['sample()']:11.3f} {median['KSampler']:11.3f} {ratio(times, 'KSampler', 'sample()'):6.3f} "
        f"{difference:11.1e} {median['with previews']:16.3f} {ratio(times, 'with previews', 'sample()'):6.3f}"
    )


def _draw_in_host(
    server: Server, client: LiveClient, subject: Subject, seed: int, preview_method: str
) -> tuple[Tensor, float]:
    """Latents in the host's scale, and the seconds that KSampler took."""
    sampler = {
        "seed": seed,
        "steps": subject.steps,
        "cfg": GUIDANCE,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
    }
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "model": ("FiTLoader", {"checkpoint": subject.checkpoint.name, "weight_dtype": "auto"}),
        "label": ("FiTClassLabel", {"model": ["model", 0], "text": str(subject.class_id)}),
        "size": (
            "FiTResolution",
            {"aspect_ratio": "1:1", "tokens": 256, "width": 256, "height": 256, "batch_size": 1},
        ),
        "sampler": (
            "KSampler",
            {
                "model": ["model", 0],
                "positive": ["label", 0],
                "negative": ["label", 1],
                "latent_image": ["size", 0],
                **sampler,
            },
        ),
        "saved": ("SaveLatent", {"samples": ["sampler", 0], "filename_prefix": "benchmark"}),
    }
    prompt = {
        name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()
    }
    run, seconds = run_timed(client, prompt, "sampler", preview_method)
    (file,) = run.outputs["saved"]["latents"]
    return load_file(server.base / "output" / file["subfolder"] / file["filename"])[
        "latent_tensor"
    ], seconds


def _load(checkpoint: Path) -> None:
    """The bare process's model, in the precision that the host chooses."""
    global _loaded
    _loaded = load_checkpoint(
        checkpoint, dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32
    )
    _loaded.model.requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")


def _draw(steps: int, class_id: int, seed: int) -> tuple[Tensor, float, float]:
    """Latents in the model's scale, the seconds they took, and that scale."""
    started = time.perf_counter()
    noise = torch.randn(
        1, _loaded.config.in_channels, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)
    )
    noise = noise.to(_loaded.model.x_embedder.proj.weight.device)
    drawn = sample(_loaded.model, noise, torch.tensor([class_id]), "euler", steps, GUIDANCE).cpu()
    seconds = time.perf_counter() - started
    return drawn, seconds, _loaded.latent_format.scale_factor if _loaded.latent_format else SD_SCALE


if __name__ == "__main__":
    main()

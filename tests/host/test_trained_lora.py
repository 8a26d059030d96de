"""The host's own node loads a LoRA of the trainer, which then equals the trained weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from host.reference import TOLERANCE, distance, sampled
from support.graph import Graph
from support.latent_sets import make_latent_set
from support.training_runs import small_config

from comfyui_fitv2 import FiT, load_checkpoint
from training.train import train
from training.train.checkpoints.reader import latest


def test_a_trained_lora_gives_the_latents_of_the_trained_weights(
    graph: Graph, latents, server, model: FiT, bundled_checkpoint: Path, tmp_path: Path
) -> None:
    data = make_latent_set(tmp_path / "latents", ((4, 4), (2, 6)), classes=2, per_class=4)
    adapt = [
        f"--init={bundled_checkpoint}",
        "--lora.rank=4",
        "--init_classes=id",
        "--optimizer.learning_rate=0.01",
        "--steps=4",
    ]
    assert train(small_config(data, tmp_path / "run", *adapt, model=())) == 0
    trained = load_checkpoint(
        latest(tmp_path / "run") / "ema-0.99.safetensors", dtype=torch.float32
    ).model
    shutil.copy(
        latest(tmp_path / "run") / "lora.safetensors",
        server.base / "models" / "loras" / "trained_here.safetensors",
    )

    loader = graph.loader()
    patched = graph.add(
        "LoraLoaderModelOnly",
        model=loader[0],
        lora_name="trained_here.safetensors",
        strength_model=1.0,
    )
    got = latents(graph, graph.ksampler(patched[0], graph.label(patched[0]), graph.size()[0])[0])
    assert distance(got, sampled(trained)) <= TOLERANCE
    assert distance(got, sampled(model)) > 0.1

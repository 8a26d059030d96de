"""Run folders with checkpoints of random weights, for tests, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.metadata import METADATA_KEY, LatentFormat, Metadata
from comfyui_fitv2.model import FiT
from training.train.checkpoints.run_folder import CHECKPOINTS, MODEL, SUMMARY, ema_file, step_name
from training.train.checkpoints.summary import CheckpointSummary
from training.train.packing import Position

SMALL = FiTConfig(hidden_size=32, depth=2, num_heads=2, num_classes=3, adaln_lora_dim=8)
CLASS_NAMES = ("cat", "dog", "cow")


def make_run(
    path: Path,
    steps: Sequence[int] = (10, 20),
    decays: Sequence[float] = (0.9, 0.9999),
    model_config: FiTConfig = SMALL,
    class_names: Sequence[str] | None = CLASS_NAMES,
) -> Path:
    """A run whose weights differ at each step, and from their averages.

    The bias of the patch embedder is the step in the raw weights, and step + decay in an average.
    """
    for step in steps:
        folder = path / CHECKPOINTS / step_name(step)
        folder.mkdir(parents=True)
        marks = {MODEL: float(step), **{ema_file(decay): step + decay for decay in decays}}
        latent_format = LatentFormat(0.18215)
        metadata = Metadata(model_config, class_names, latent_format, {"step": step})
        for name, mark in marks.items():
            torch.manual_seed(step)
            state = FiT(model_config).state_dict()
            state["x_embedder.proj.bias"].fill_(mark)
            save_file(state, folder / name, {METADATA_KEY: metadata.to_json()})
        text = replace(SUMMARY_OF_STEP_0, step=step, images=4 * step, tokens=64 * step).to_json()
        (folder / SUMMARY).write_text(text, encoding="utf-8")
    return path


SUMMARY_OF_STEP_0 = CheckpointSummary(
    step=0,
    skipped=0,
    images=0,
    tokens=0,
    epoch=1,
    loss=0.5,
    ema_updates=0,
    position=Position(),
    class_map=(0, 1, 2),
    packs_per_step=1,
    data={"images": 12, "checksum": 0},
    config={"steps": 20, "data": "/home/someone/latents"},
)

"""Run folders with checkpoints of random weights, for tests, without training."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.metadata import METADATA_KEY, LatentFormat, Metadata
from comfyui_fitv2.model import FiT
from training.train.checkpoints.run_folder import CHECKPOINTS, SUMMARY, step_name
from training.train.checkpoints.summary import CheckpointSummary
from training.train.packing import Position

SMALL = FiTConfig(hidden_size=32, depth=2, num_heads=2, num_classes=3, adaln_lora_dim=8)
CLASS_NAMES = ["cat", "dog", "cow"]
LATENT_FORMAT = LatentFormat(0.18215)


def make_run(path: Path) -> Path:
    """A run with checkpoints at steps 10 and 20, of random weights and two averages of them.

    The bias of the patch embedder tells them apart: it is the step in the raw weights, and the step
    plus the decay in an average.
    """
    about = {"format": "pt", METADATA_KEY: Metadata(SMALL, CLASS_NAMES, LATENT_FORMAT).to_json()}
    for step in (10, 20):
        folder = path / CHECKPOINTS / step_name(step)
        folder.mkdir(parents=True)
        for name, decay in (("model", 0.0), ("ema-0.9", 0.9), ("ema-0.9999", 0.9999)):
            torch.manual_seed(step)
            state = FiT(SMALL).state_dict()
            state["x_embedder.proj.bias"].fill_(step + decay)
            save_file(state, folder / f"{name}.safetensors", about)
        summary = CheckpointSummary(
            step=step,
            skipped=0,
            images=4 * step,
            tokens=64 * step,
            epoch=1,
            loss=0.5,
            ema_updates=step,
            position=Position(),
            class_map=(0, 1, 2),
            packs_per_step=1,
            data={"images": 12, "checksum": 0},
            config={"steps": 20, "data": "/home/someone/latents"},
        )
        (folder / SUMMARY).write_text(summary.to_json(), encoding="utf-8")
    return path

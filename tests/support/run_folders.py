"""Run folders with checkpoints of random weights, for tests, without training."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.metadata import METADATA_KEY, LatentFormat, Metadata
from comfyui_fitv2.model import FiT

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
        folder = path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        for name, decay in (("model", 0.0), ("ema-0.9", 0.9), ("ema-0.9999", 0.9999)):
            torch.manual_seed(step)
            state = FiT(SMALL).state_dict()
            state["x_embedder.proj.bias"].fill_(step + decay)
            save_file(state, folder / f"{name}.safetensors", about)
        summary = {
            "step": step,
            "images": 4 * step,
            "tokens": 64 * step,
            "epoch": 1,
            "loss": 0.5,
            "config": {"steps": 20, "data": "/home/someone/latents"},
        }
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return path

"""Run folders with checkpoints of random weights, for tests, without training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.model import FiT

SMALL = FiTConfig(hidden_size=32, depth=2, num_heads=2, num_classes=3, adaln_lora_dim=8)


def make_run(
    path: Path,
    steps: Sequence[int] = (10, 20),
    decays: Sequence[float] = (0.9, 0.9999),
    fit: FiTConfig = SMALL,
    **summary: Any,
) -> Path:
    """A run whose weights at each step, and each average of theirs, differ: the patch embedder's bias is step + decay, the raw weights' is the step."""
    for step in steps:
        folder = path / "checkpoints" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        for name, mark in [
            ("model", float(step)),
            *((f"ema-{decay}", step + decay) for decay in decays),
        ]:
            torch.manual_seed(step)
            state = FiT(fit).state_dict()
            state["x_embedder.proj.bias"].fill_(mark)
            save_file(state, folder / f"{name}.safetensors")
        told = {
            "step": step,
            "images": 4 * step,
            "tokens": 64 * step,
            "epoch": 1,
            "loss": 0.5,
            "fit": asdict(fit),
            "class_names": ["cat", "dog", "cow"],
            "latent_format": {"scale_factor": 0.18215},
            "config": {"steps": 20, "data": "/home/someone/latents"},
        }
        (folder / "summary.json").write_text(json.dumps(told | summary), encoding="utf-8")
    return path

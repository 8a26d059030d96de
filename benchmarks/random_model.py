"""Checkpoints of published sizes with random weights: as fast and as large as trained ones."""

from __future__ import annotations

from pathlib import Path

import torch

from comfyui_fitv2 import FiT, FiTConfig, Metadata, save_checkpoint


def save_random(path: Path, config: FiTConfig) -> None:
    """Write an fp32 checkpoint of ``config`` whose weights are small normal numbers."""
    shapes = FiT(config, device="meta").state_dict()
    weights = {key: torch.empty(value.shape).normal_(std=0.02) for key, value in shapes.items()}
    save_checkpoint(path, weights, Metadata(config))

"""The published code's training step, from a checkout of it: github.com/whlzy/FiT.

Its training script cannot be run as published, so the step is put together here as that script has
it: bf16 autocast, the loss over a padded batch, gradients clipped to 1, AdamW, and one average.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from comfyui_fitv2.config import FiTConfig
from training.train.training_set import MicroBatch

EMA_DECAY = 0.9999


class PublicStep:
    """A step of the published model with these weights on this batch, as its script takes it."""

    def __init__(
        self, checkout: Path, config: FiTConfig, weights: dict[str, Tensor], batch: MicroBatch
    ) -> None:
        """``batch`` must be packed. Raises ``ModuleNotFoundError`` without timm and einops."""
        self.model = public_model(checkout, config).train()
        self.model.load_state_dict(weights)
        self.average = deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, weight_decay=0)
        lengths = [rows * columns for rows, columns in batch.grids]
        self.x, self.target = (
            pad_sequence(list(tokens[0].split(lengths)), batch_first=True)
            for tokens in (batch.tokens, batch.target)
        )
        self.t, self.y = batch.t, batch.y
        self.grid = pad_sequence([_positions(grid).T for grid in batch.grids], batch_first=True).mT
        self.mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).to(torch.uint8)

    def __call__(self) -> Tensor:
        """Take the step. The loss before it."""
        self.optimizer.zero_grad()
        with torch.autocast(self.x.device.type, torch.bfloat16):
            answer = self.model(self.x, self.t, self.y, self.grid, self.mask)
            ratio = self.mask.shape[-1] / self.mask.count_nonzero(-1)
            errors = ((answer - self.target) * self.mask[..., None]) ** 2
            loss = (errors.mean((1, 2)) * ratio).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            averages = dict(self.average.named_parameters())
            for name, parameter in self.model.named_parameters():
                averages[name].mul_(EMA_DECAY).add_(parameter, alpha=1 - EMA_DECAY)
        return loss.detach()


def public_model(checkout: Path, config: FiTConfig) -> Any:
    """The published model of this configuration, which drops no labels: the batch has dropped them.

    Of what it imports, ``fit.model.sincos`` was never published, and triton is for Linux with a
    GPU; it uses neither.
    """
    sys.path.insert(0, str(checkout))
    sincos = ModuleType("fit.model.sincos")
    vars(sincos)["get_2d_sincos_pos_embed_from_grid"] = None
    sys.modules["fit.model.sincos"] = sincos
    if find_spec("triton") is None:
        sys.modules |= {name: ModuleType(name) for name in ("triton", "triton.language")}
    model: Any = import_module("fit.model.fit_model").FiT(
        hidden_size=config.hidden_size,
        depth=config.depth,
        num_heads=config.num_heads,
        num_classes=config.num_classes,
        learn_sigma=False,
        use_sit=True,
        use_swiglu=True,
        q_norm="layernorm",
        k_norm="layernorm",
        adaln_type="lora",
        adaln_lora_dim=config.adaln_lora_dim,
    )
    model.y_embedder.dropout_prob = 0.0
    return model


def _positions(grid: tuple[int, int]) -> Tensor:
    """(2, tokens): the column and the row of every token."""
    rows, columns = grid
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((column.flatten(), row.flatten()))

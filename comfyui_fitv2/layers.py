"""The parts of a FiTv2 block. Attribute names are those of the published checkpoints' keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import TokenBatch
from .config import FiTConfig

NORM_EPS = 1e-6
TIMESTEP_FREQUENCIES = 256
TIMESTEP_MAX_PERIOD = 10000.0


class Operations(Protocol):
    """A source of layers: ``torch.nn`` itself, or a host's module of layers that cast weights."""

    Linear: type[nn.Linear]
    Embedding: type[nn.Embedding]


@dataclass(frozen=True, slots=True)
class LayerFactory:
    """Makes layers of one device and dtype from ``operations``."""

    operations: Operations
    device: torch.device | str | None = None
    dtype: torch.dtype | None = None

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        return self.operations.Linear(inputs, outputs, device=self.device, dtype=self.dtype)

    def embedding(self, rows: int, width: int) -> nn.Embedding:
        return self.operations.Embedding(rows, width, device=self.device, dtype=self.dtype)


def normalize(x: Tensor) -> Tensor:
    """LayerNorm over the last axis, without affine parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def timestep_embedding(t: Tensor) -> Tensor:
    """Sinusoids of ``t`` (batch,), unscaled: (batch, 256) fp32, cosines first."""
    half = TIMESTEP_FREQUENCIES // 2
    exponents = torch.arange(half, device=t.device, dtype=torch.float32) / half
    # Multiplied in this order to give the published code's frequencies bit by bit.
    frequencies = torch.exp(-math.log(TIMESTEP_MAX_PERIOD) * exponents)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class PatchEmbed(nn.Module):
    def __init__(self, config: FiTConfig, make: LayerFactory) -> None:
        super().__init__()
        self.proj = make.linear(config.in_channels * config.patch_size**2, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.proj(tokens)


class TimestepEmbed(nn.Module):
    def __init__(self, config: FiTConfig, make: LayerFactory) -> None:
        super().__init__()
        d = config.hidden_size
        self.mlp = nn.Sequential(make.linear(TIMESTEP_FREQUENCIES, d), nn.SiLU(), make.linear(d, d))

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(timestep_embedding(t).to(dtype))


class LabelEmbed(nn.Module):
    """One row per class; the last row is the null class."""

    def __init__(self, config: FiTConfig, make: LayerFactory) -> None:
        super().__init__()
        self.embedding_table = make.embedding(config.num_classes + 1, config.hidden_size)

    def forward(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """Embeddings (images, width) of class ids (images,), or of weights (images, rows).

        Weights, which are floats, blend the rows of the table.
        """
        if not y.is_floating_point():
            return self.embedding_table(y).to(dtype)
        # By the layer, not by its weight: a host's layer casts and patches it.
        rows = self.embedding_table(torch.arange(y.shape[-1], device=y.device))
        return (y.float() @ rows.float()).to(dtype)


class SelfAttention(nn.Module):
    def __init__(self, config: FiTConfig, make: LayerFactory) -> None:
        super().__init__()
        d = config.hidden_size
        self.num_heads = config.num_heads
        self.qk_norm = config.qk_norm
        self.qkv = make.linear(d, 3 * d)
        self.proj = make.linear(d, d)

    def forward(self, x: Tensor, batch: TokenBatch) -> Tensor:
        # (rows, tokens, 3·heads·head_dim) to three of (rows, heads, tokens, head_dim)
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if self.qk_norm:
            query, key = normalize(query), normalize(key)
        attended = batch.attend(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    def __init__(self, config: FiTConfig, make: LayerFactory) -> None:
        super().__init__()
        d, hidden = config.hidden_size, config.mlp_hidden_size
        self.fc1_g = make.linear(d, hidden)
        self.fc1_x = make.linear(d, hidden)
        self.fc2 = make.linear(hidden, d)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1_g(x), self.fc1_x(x)
        if torch.is_grad_enabled():
            return self.fc2(F.silu(gate) * value)
        # In place: on a CPU, fresh memory costs more than this arithmetic.
        return self.fc2(F.silu(gate, inplace=True).mul_(value))


class Block(nn.Module):
    """Attention and SwiGLU, each shifted, scaled and gated by AdaLN-LoRA (arXiv 2410.13925, 3.2).

    Without LoRA (version 1) each block makes its whole modulation itself.
    """

    def __init__(self, config: FiTConfig, make: LayerFactory) -> None:
        super().__init__()
        d, rank = config.hidden_size, config.adaln_lora_dim
        self.attn = SelfAttention(config, make)
        self.mlp = SwiGLU(config, make)
        layers = (
            [make.linear(d, rank), make.linear(rank, 6 * d)] if rank else [make.linear(d, 6 * d)]
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), *layers)

    def forward(
        self, x: Tensor, conditioning: Tensor, shared_modulation: Tensor | float, batch: TokenBatch
    ) -> Tensor:
        """Tokens ``x`` (rows, tokens, d) to the same shape.

        ``conditioning`` is (images, d); ``shared_modulation`` (images, 6·d), or 0 without one.
        """
        modulation = self.adaLN_modulation(conditioning) + shared_modulation
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=-1)
        attended = self.attn(batch.modulate(normalize(x), shift_1, scale_1), batch)
        x = batch.gate(x, attended, gate_1)
        return batch.gate(x, self.mlp(batch.modulate(normalize(x), shift_2, scale_2)), gate_2)


class FinalLayer(nn.Module):
    def __init__(self, config: FiTConfig, make: LayerFactory) -> None:
        super().__init__()
        d = config.hidden_size
        self.linear = make.linear(d, config.in_channels * config.patch_size**2)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), make.linear(d, 2 * d))

    def forward(self, x: Tensor, conditioning: Tensor, batch: TokenBatch) -> Tensor:
        shift, scale = self.adaLN_modulation(conditioning).chunk(2, dim=-1)
        return self.linear(batch.modulate(normalize(x), shift, scale))

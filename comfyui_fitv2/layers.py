"""The parts of a FiTv2 block. Attribute names are those of the published checkpoints' keys."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import TokenBatch
from .config import FiTConfig

NORM_EPS = 1e-6
TIMESTEP_FREQUENCIES = 256
TIMESTEP_MAX_PERIOD = 10000.0


def normalize(x: Tensor) -> Tensor:
    """LayerNorm over the last axis, without affine parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, normalize(x), 1 + scale)


def gated_sum(x: Tensor, branch: Tensor, gate: Tensor) -> Tensor:
    return torch.addcmul(x, gate, branch)


def timestep_embedding(t: Tensor) -> Tensor:
    """Sinusoids of t (batch,), as it is in [0, 1]: (batch, 256) fp32, cosines first."""
    half = TIMESTEP_FREQUENCIES // 2
    frequencies = torch.exp(
        -math.log(TIMESTEP_MAX_PERIOD)
        * torch.arange(half, device=t.device, dtype=torch.float32)
        / half
    )
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class PatchEmbed(nn.Module):
    def __init__(self, config: FiTConfig, ops: ModuleType | Any, **factory: Any) -> None:
        super().__init__()
        self.proj = ops.Linear(
            config.in_channels * config.patch_size**2, config.hidden_size, **factory
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.proj(tokens)


class TimestepEmbed(nn.Module):
    def __init__(self, config: FiTConfig, ops: ModuleType | Any, **factory: Any) -> None:
        super().__init__()
        d = config.hidden_size
        self.mlp = nn.Sequential(
            ops.Linear(TIMESTEP_FREQUENCIES, d, **factory), nn.SiLU(), ops.Linear(d, d, **factory)
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(timestep_embedding(t).to(dtype))


class LabelEmbed(nn.Module):
    """A row a class; the last row is the null class."""

    def __init__(self, config: FiTConfig, ops: ModuleType | Any, **factory: Any) -> None:
        super().__init__()
        self.embedding_table = ops.Embedding(config.num_classes + 1, config.hidden_size, **factory)

    def forward(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return self.embedding_table(y).to(dtype)


class SelfAttention(nn.Module):
    def __init__(self, config: FiTConfig, ops: ModuleType | Any, **factory: Any) -> None:
        super().__init__()
        d = config.hidden_size
        self.num_heads = config.num_heads
        self.qk_norm = config.qk_norm
        self.qkv = ops.Linear(d, 3 * d, **factory)
        self.proj = ops.Linear(d, d, **factory)

    def forward(self, x: Tensor, batch: TokenBatch) -> Tensor:
        # (rows, tokens, 3·heads·head_dim) -> three of (rows, heads, tokens, head_dim)
        query, key, value = (
            self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        )
        if self.qk_norm:
            query, key = normalize(query), normalize(key)
        attended = batch.attend(query, key, value)
        return self.proj(attended.transpose(1, 2).flatten(2))


class SwiGLU(nn.Module):
    def __init__(self, config: FiTConfig, ops: ModuleType | Any, **factory: Any) -> None:
        super().__init__()
        d, hidden = config.hidden_size, config.mlp_hidden_size
        self.fc1_g = ops.Linear(d, hidden, **factory)
        self.fc1_x = ops.Linear(d, hidden, **factory)
        self.fc2 = ops.Linear(hidden, d, **factory)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1_g(x), self.fc1_x(x)
        if torch.is_grad_enabled():
            return self.fc2(F.silu(gate) * value)
        # Within the memory of the products: fresh memory costs a CPU more than this arithmetic.
        return self.fc2(F.silu(gate, inplace=True).mul_(value))


class Block(nn.Module):
    """Attention and SwiGLU, each shifted, scaled and gated by AdaLN-LoRA (arXiv 2410.13925, section 3.2), or by AdaLN in version 1."""

    def __init__(self, config: FiTConfig, ops: ModuleType | Any, **factory: Any) -> None:
        super().__init__()
        d, rank = config.hidden_size, config.adaln_lora_dim
        self.attn = SelfAttention(config, ops, **factory)
        self.mlp = SwiGLU(config, ops, **factory)
        down_up = (
            [ops.Linear(d, rank, **factory), ops.Linear(rank, 6 * d, **factory)]
            if rank
            else [ops.Linear(d, 6 * d, **factory)]
        )
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), *down_up)

    def forward(
        self, x: Tensor, conditioning: Tensor, shared_modulation: Tensor | float, batch: TokenBatch
    ) -> Tensor:
        """``x`` (rows, tokens, d); ``conditioning`` (images, d); ``shared_modulation`` (images, 6·d), or 0 without one."""
        modulation = self.adaLN_modulation(conditioning) + shared_modulation
        shift_attn, scale_attn, gate_attn, shift_mlp, scale_mlp, gate_mlp = modulation.chunk(
            6, dim=-1
        )
        attended = self.attn(batch.modulated(modulated_norm, [x], [shift_attn, scale_attn]), batch)
        x = batch.modulated(gated_sum, [x, attended], [gate_attn])
        return batch.modulated(
            gated_sum,
            [x, self.mlp(batch.modulated(modulated_norm, [x], [shift_mlp, scale_mlp]))],
            [gate_mlp],
        )


class FinalLayer(nn.Module):
    def __init__(self, config: FiTConfig, ops: ModuleType | Any, **factory: Any) -> None:
        super().__init__()
        d = config.hidden_size
        self.linear = ops.Linear(d, config.in_channels * config.patch_size**2, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), ops.Linear(d, 2 * d, **factory))

    def forward(self, x: Tensor, conditioning: Tensor, batch: TokenBatch) -> Tensor:
        shift, scale = self.adaLN_modulation(conditioning).chunk(2, dim=-1)
        return self.linear(batch.modulated(modulated_norm, [x], [shift, scale]))

"""Attention over images of one size, or of many sizes in one call, without masks and without padding.

A block does not know which it is given: it asks its batch to attend, and to hand each token its image's modulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .rope import Rotation, rotate

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(batch, heads, tokens, head_dim) queries, keys and values to the same shape, no mask."""


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention by PyTorch's fused kernel; see ``Attention`` for shapes."""
    return F.scaled_dot_product_attention(query, key, value)


def _varlen_takes(query: Tensor) -> bool:
    """Whether PyTorch's variable-length flash attention can run on this."""
    return (
        varlen_attn is not None
        and query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] % 8 == 0
    )


class TokenBatch(Protocol):
    """How the tokens of a batch belong to images. Tokens are (rows, tokens, width)."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Rotate, then attend within each image; (rows, heads, tokens, head_dim) in and out."""
        ...

    def per_token(self, per_image: Tensor) -> Tensor:
        """(images, n) to a shape that broadcasts over (rows, tokens, n)."""
        ...

    def modulated(
        self, function: Callable[..., Tensor], tokens: Sequence[Tensor], per_image: Sequence[Tensor]
    ) -> Tensor:
        """``function`` of (rows, tokens, n) ``tokens`` and of ``per_image`` (images, n), each token with its own image's."""
        return function(*tokens, *map(self.per_token, per_image))


class UniformBatch(TokenBatch):
    """Images of one size: a row an image."""

    def __init__(self, rotation: Rotation, attention: Attention) -> None:
        self.rotation = rotation
        self.attention = attention

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.attention(rotate(query, self.rotation), rotate(key, self.rotation), value)

    def per_token(self, per_image: Tensor) -> Tensor:
        return per_image.unsqueeze(1)


class PackedBatch(TokenBatch):
    """Images of any sizes: one row that holds all their tokens, image after image. Neighbours of one length are handled together."""

    def __init__(self, rotations: Sequence[Rotation], attention: Attention) -> None:
        self.rotation = (
            torch.cat([cos for cos, _ in rotations]),
            torch.cat([sin for _, sin in rotations]),
        )
        self.lengths = [len(cos) for cos, _ in rotations]
        self.attention = attention
        self.runs = [(length, len(list(images))) for length, images in groupby(self.lengths)]
        self.tokens_of_runs = [length * count for length, count in self.runs]
        self.images_of_runs = [count for _, count in self.runs]
        # Built on the host from known lengths, so that no block waits for the device.
        lengths = torch.tensor(self.lengths)
        device = self.rotation[0].device
        self.image_of_token = torch.arange(len(lengths)).repeat_interleave(lengths).to(device)
        self.boundaries = F.pad(lengths.cumsum(0), (1, 0)).to(device, torch.int32)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key = rotate(query, self.rotation), rotate(key, self.rotation)
        if self.attention is attention and _varlen_takes(query):
            return self._attend_at_once(query, key, value)
        together = zip(
            self.runs,
            *(x[0].split(self.tokens_of_runs, dim=1) for x in (query, key, value)),
            strict=True,
        )
        # Tokens first, as the kernel leaves them and the next layer takes them: nothing is copied but by this.
        attended = [
            self.attention(*(_apart(x, *run) for x in qkv)).transpose(1, 2).flatten(0, 1)
            for run, *qkv in together
        ]
        return torch.cat(attended).transpose(0, 1).unsqueeze(0)

    def _attend_at_once(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        assert varlen_attn is not None
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (tokens, heads, head_dim)
        longest = max(self.lengths)
        out = cast(Tensor, varlen_attn(q, k, v, self.boundaries, self.boundaries, longest, longest))
        return out.transpose(0, 1).unsqueeze(0)

    def per_token(self, per_image: Tensor) -> Tensor:
        return per_image[self.image_of_token].unsqueeze(0)

    def modulated(
        self, function: Callable[..., Tensor], tokens: Sequence[Tensor], per_image: Sequence[Tensor]
    ) -> Tensor:
        if tokens[0].is_cuda or torch.compiler.is_compiling():  # where few large steps are quicker
            return super().modulated(function, tokens, per_image)
        # On a CPU a copy of the modulation for every token would cost more than the rest of this.
        rows = (
            [
                part.view(count, length, -1)
                for part, (length, count) in zip(
                    x[0].split(self.tokens_of_runs), self.runs, strict=True
                )
            ]
            for x in tokens
        )
        images = zip(
            *rows, *(m[:, None].split(self.images_of_runs) for m in per_image), strict=True
        )
        return torch.cat([function(*run).flatten(0, 1) for run in images]).unsqueeze(0)


def _apart(x: Tensor, length: int, count: int) -> Tensor:
    """(heads, count · length, head_dim) to (count, heads, length, head_dim)."""
    return x.unflatten(1, (count, length)).transpose(0, 1)

"""A pack in training: its attention stays out of compiled graphs, and is fast on a CPU in bf16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function

from comfyui_fitv2.attention import PackedBatch
from comfyui_fitv2.rope import untraced

_MAX_SCORE_TOKENS = 1024
"""Tokens of an image up to which attention scores are stored. Those of longer ones would fill the
memory, so these go through PyTorch's kernel."""

Groups = Sequence[tuple[int, int]]
"""Neighbours of one length, as (tokens per image, number of images)."""


class TrainedPack(PackedBatch):
    by_products = False
    """Whether attention is two matrix products, of queries and keys that were normalized."""

    # The numbers of images and of their tokens differ from step to step. In a compiled graph each
    # would be a constant, and each step compiled anew.
    @untraced
    def attend_rotated(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.by_products and max(self.lengths) <= _MAX_SCORE_TOKENS:
            return attention_by_products(query, key, value, self.groups)
        return super().attend_rotated(query, key, value)


def attention_by_products(query: Tensor, key: Tensor, value: Tensor, groups: Groups) -> Tensor:
    """Softmax attention within each image, for bf16 on a CPU and normalized queries and keys.

    (1, heads, tokens, head_dim) in and out. Its forward and backward passes take less than half of
    the time of PyTorch's kernel, and it stores the exponentials of the scores.
    """
    return cast(Tensor, _Attention.apply(query, key, value, groups))


class _Attention(Function):
    """It divides by the sums of the exponentials after the product with the values.

    So the N² numbers of an image are gone through once forward and once backward, besides the
    products. The largest score is not taken off: of normalized queries and keys it is at most
    √head_dim, times the square of the rotary tables' magnitude.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, groups: Groups) -> Tensor:
        ctx.groups, ctx.scale = groups, query.shape[-1] ** -0.5
        result = _empty(query)
        kept: list[Tensor] = []
        for q, k, v, out in _by_group(groups, query * ctx.scale, key, value, result):
            q, k, v = (x.reshape(-1, *x.shape[2:]) for x in (q, k, v))
            powers = (q @ k.mT).exp_()
            sums = powers.sum(-1, keepdim=True)
            attended = (powers @ v).div_(sums)
            out.copy_(attended.view_as(out))
            kept += (q, k, v, powers, sums, attended)
        ctx.save_for_backward(*kept)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        kept = iter(ctx.saved_tensors)
        results = [_empty(gradients[0]) for _ in range(3)]
        for given, of_q, of_k, of_v in _by_group(ctx.groups, gradients[0], *results):
            q, k, v, powers, sums, attended = (next(kept) for _ in range(6))
            given = given.reshape(-1, *given.shape[2:]) / sums
            # What a row of scores loses on average, as one more column of the product.
            mean = torch.linalg.vecdot(given, attended).neg_().unsqueeze(-1)
            ones = torch.ones_like(mean)
            of_scores = (torch.cat((given, mean), -1) @ torch.cat((v, ones), -1).mT).mul_(powers)
            torch.mul((of_scores @ k).view_as(of_q), ctx.scale, out=of_q)
            of_k.copy_((of_scores.mT @ q).view_as(of_k))
            of_v.copy_((powers.mT @ given).view_as(of_v))
        return *results, None


def _by_group(groups: Groups, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Each group's views (images, heads, tokens, width) of (1, heads, tokens, width)."""
    sizes = [length * count for length, count in groups]
    parts = zip(*(x[0].split(sizes, dim=1) for x in tensors), strict=True)
    for (length, count), of_group in zip(groups, parts, strict=True):
        yield tuple(part.unflatten(1, (count, length)).transpose(0, 1) for part in of_group)


def _empty(like: Tensor) -> Tensor:
    """(1, heads, tokens, width), token after token in memory as linear layers have it."""
    _, heads, tokens, width = like.shape
    return like.new_empty(1, tokens, heads, width).transpose(1, 2)

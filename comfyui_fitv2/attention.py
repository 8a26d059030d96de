"""Attention over images of one size, or of many sizes in one call, without masks or padding.

Blocks do not know whether a batch is uniform or packed: the batch does attention and modulation.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from .devices import copied_to
from .extrapolation import Extrapolation
from .rope import Pair, Rotation, rotate

if TYPE_CHECKING:
    from .model import FiT

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None

_log = logging.getLogger(__name__)

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values (batch, heads, tokens, head_dim) to the same shape, without a mask."""
VariableLengthAttention = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], Tensor]
"""Attention within each image of a pack, with the interface of ``varlen_attn``.

Takes queries, keys and values (tokens, heads, head_dim), then for queries and for keys the index of
each image's first token and of the end, (images + 1,) int32, then the longest image's tokens,
twice.
"""


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with PyTorch's fused kernel; see ``Attention`` for shapes."""
    return F.scaled_dot_product_attention(query, key, value)


def flash_attention_for(query: Tensor) -> VariableLengthAttention | None:
    """PyTorch's variable-length flash attention where it runs on such a query, else None."""
    if varlen_attn is None or not _varlen_takes(query) or not _varlen_runs(*_varlen_use(query)):
        return None
    return cast(VariableLengthAttention, varlen_attn)


def _varlen_takes(query: Tensor) -> bool:
    """Whether the kernel is made for such a query."""
    half_precision = query.dtype in (torch.float16, torch.bfloat16)
    return query.is_cuda and half_precision and not query.shape[-1] % 8


_VarlenUse = tuple[torch.device, torch.dtype, int, bool]
"""Device, dtype, head_dim, and whether there is a backward pass."""
_varlen_results: dict[_VarlenUse, bool] = {}
_varlen_lock = Lock()


def _varlen_use(query: Tensor) -> _VarlenUse:
    trained = query.requires_grad and torch.is_grad_enabled()
    return query.device, query.dtype, query.shape[-1], trained


@torch.compiler.assume_constant_result
def _varlen_runs(device: torch.device, dtype: torch.dtype, head_dim: int, trained: bool) -> bool:
    """Whether the kernel runs, by one trial per use; a failure is logged once.

    PyTorch has the kernel's interface also where it was built without flash attention (Windows), or
    where the GPU is too old for it (Turing). Calling it is the only way to know.
    """
    use = device, dtype, head_dim, trained
    with _varlen_lock:
        if use not in _varlen_results:
            try:
                _try_varlen(device, dtype, head_dim, trained)
            except torch.cuda.OutOfMemoryError:
                raise
            except (RuntimeError, ImportError) as error:
                _varlen_failed(use, error)
            else:
                _varlen_results[use] = True
        return _varlen_results[use]


def _try_varlen(device: torch.device, dtype: torch.dtype, head_dim: int, trained: bool) -> None:
    """Run the kernel on two images of a few tokens, and raise what it raises."""
    assert varlen_attn is not None
    with torch.inference_mode(False), torch.set_grad_enabled(trained):
        q, k, v = torch.zeros(3, 5, 1, head_dim, device=device, dtype=dtype).unbind()
        boundaries = torch.tensor([0, 2, 5], device=device, dtype=torch.int32)
        q.requires_grad_(trained)
        result = varlen_attn(q, k, v, boundaries, boundaries, 3, 3)
        if trained:
            cast(Tensor, result).sum().backward()


def _varlen_failed(use: _VarlenUse, error: Exception) -> None:
    if all(_varlen_results.values()):
        _log.warning(
            "PyTorch's variable-length flash attention does not run here (%s). Images of different "
            "sizes are attended to one size after the other, which is slower and gives the same.",
            str(error).partition("\n")[0],
        )
    _varlen_results[use] = False


class TokenBatch(ABC):
    """How the tokens of a batch belong to its images. Tokens are (rows, tokens, width)."""

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Rotate, then attend within each image; (rows, heads, tokens, head_dim) in and out."""

    @abstractmethod
    def per_token(self, per_image: Tensor) -> Tensor:
        """Values per image, (images, n), in a shape that broadcasts over (rows, tokens, n)."""

    def modulate(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """x·(1 + scale) + shift, with each token's own image's shift and scale, (images, width)."""
        return torch.addcmul(self.per_token(shift), x, self.per_token(1 + scale))

    def gate(self, x: Tensor, branch: Tensor, gate: Tensor) -> Tensor:
        """x + gate·branch, with each token's own image's gate, (images, width)."""
        return torch.addcmul(x, self.per_token(gate), branch)


class UniformBatch(TokenBatch):
    """Images of one size: one row per image."""

    def __init__(self, rotation: Rotation, attention: Attention = attention) -> None:
        self.rotation = rotation
        self.attention = attention

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.attention(rotate(query, self.rotation), rotate(key, self.rotation), value)

    def per_token(self, per_image: Tensor) -> Tensor:
        return per_image.unsqueeze(1)


class PackedBatch(TokenBatch):
    """Images of any sizes: one row that holds all their tokens, image after image.

    Neighbours with the same number of tokens form a group, which is processed as one batch.
    """

    def __init__(
        self,
        rotations: Sequence[Rotation],
        attention: Attention = attention,
        variable_length_attention: VariableLengthAttention | None = None,
    ) -> None:
        """``rotations`` holds one table (tokens, head_dim / 2) per image.

        ``variable_length_attention`` replaces ``attention`` for all images at once. By default it
        is PyTorch's, where that can run and ``attention`` is PyTorch's too.
        """
        cos, sin = zip(*rotations, strict=True)
        self.rotation = torch.cat(cos), torch.cat(sin)
        self.attention = attention
        self.variable_length_attention = variable_length_attention
        self.lengths = [len(table) for table in cos]
        self.groups = [(length, len(list(images))) for length, images in groupby(self.lengths)]
        """Neighbours of one length, as (tokens per image, number of images)."""
        # Every size is known here, so that no block waits for the device to tell one.
        lengths = copied_to(self.rotation[0].device, torch.tensor(self.lengths))
        self.image_of_token = torch.arange(len(cos), device=lengths.device).repeat_interleave(
            lengths, output_size=sum(self.lengths)
        )
        self.boundaries = F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)

    @classmethod
    def of(
        cls,
        model: FiT,
        grids: Sequence[tuple[int, int]],
        t: Tensor,
        extrapolations: Extrapolation | Sequence[Extrapolation | None] | None = None,
        attention: Attention | None = None,
        position_scale: Pair = (1.0, 1.0),
        position_shift: Pair = (0.0, 0.0),
        variable_length_attention: VariableLengthAttention | None = None,
    ) -> PackedBatch:
        """The batch of images with these (rows, columns) ``grids`` at the times ``t`` (images,).

        One extrapolation is for all images; ``attention`` is the model's by default. The tables are
        on the device of ``t``. See ``FiT.rotations``.
        """
        rotations = model.rotations(grids, t, extrapolations, position_scale, position_shift)
        return cls(rotations, attention or model.attention, variable_length_attention)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self.attend_rotated(rotate(query, self.rotation), rotate(key, self.rotation), value)

    def attend_rotated(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend within each image; (1, heads, tokens, head_dim) in and out."""
        if self.variable_length_attention is not None:
            return self._attend_at_once(self.variable_length_attention, query, key, value)
        kernel = flash_attention_for(query) if self.attention is attention else None
        if kernel is not None:
            try:
                return self._attend_at_once(kernel, query, key, value)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:  # it ran in the trial, and does not at this size
                _varlen_failed(_varlen_use(query), error)
        return self._attend_by_group(query, key, value)

    def _attend_by_group(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        groups = zip(*(self._heads_by_group(x) for x in (query, key, value)), strict=True)
        # Concatenate token-major, the layout SDPA returns and the next layer expects, so this is
        # the only copy.
        attended = [self.attention(*qkv).transpose(1, 2).flatten(0, 1) for qkv in groups]
        return torch.cat(attended).transpose(0, 1).unsqueeze(0)

    def _attend_at_once(
        self, attend: VariableLengthAttention, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # (tokens, heads, head_dim)
        longest = max(self.lengths)
        attended = attend(q, k, v, self.boundaries, self.boundaries, longest, longest)
        return attended.transpose(0, 1).unsqueeze(0)

    def per_token(self, per_image: Tensor) -> Tensor:
        return per_image[self.image_of_token].unsqueeze(0)

    def modulate(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        if _per_token_is_faster(x):
            return super().modulate(x, shift, scale)
        groups = zip(
            self._tokens_by_group(x),
            self._images_by_group(shift),
            self._images_by_group(1 + scale),
            strict=True,
        )
        return _joined([torch.addcmul(shift, x, scale) for x, shift, scale in groups])

    def gate(self, x: Tensor, branch: Tensor, gate: Tensor) -> Tensor:
        if _per_token_is_faster(x):
            return super().gate(x, branch, gate)
        groups = zip(
            self._tokens_by_group(x),
            self._tokens_by_group(branch),
            self._images_by_group(gate),
            strict=True,
        )
        return _joined([torch.addcmul(x, gate, branch) for x, branch, gate in groups])

    def _heads_by_group(self, x: Tensor) -> Iterator[Tensor]:
        """(1, heads, tokens, head_dim) to each group's (images, heads, tokens, head_dim)."""
        parts = x[0].split([length * count for length, count in self.groups], dim=1)
        for part, (length, count) in zip(parts, self.groups, strict=True):
            yield part.unflatten(1, (count, length)).transpose(0, 1)

    def _tokens_by_group(self, x: Tensor) -> Iterator[Tensor]:
        """(1, tokens, width) to each group's (images, tokens, width)."""
        parts = x[0].split([length * count for length, count in self.groups])
        for part, (length, count) in zip(parts, self.groups, strict=True):
            yield part.view(count, length, -1)

    def _images_by_group(self, per_image: Tensor) -> Sequence[Tensor]:
        """(images, width) to each group's (images, 1, width)."""
        return per_image[:, None].split([count for _, count in self.groups])


def _joined(groups: list[Tensor]) -> Tensor:
    """(images, tokens, width) of each group to (1, tokens, width) of all."""
    return torch.cat([group.flatten(0, 1) for group in groups]).unsqueeze(0)


def _per_token_is_faster(x: Tensor) -> bool:
    """Whether a few large steps beat a copy of the modulation for every token, as on a GPU.

    On a CPU that copy would cost more than the arithmetic on it.
    """
    return x.device.type != "cpu" or torch.compiler.is_compiling()

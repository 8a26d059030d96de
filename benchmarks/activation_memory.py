"""Peak activation memory of a forward pass, as the ``memory_usage_factor`` that ComfyUI plans with.

    python -m benchmarks.activation_memory

With fused attention ComfyUI reserves ``latent pixels × bytes per value × 0.01 MiB × factor``. Live
tensors are counted by storage as PyTorch creates and frees them, without the weights, so the factor
holds for any device with fused attention.

PyTorch has no public way to follow tensors on the meta device: this uses ``_python_dispatch`` and
``_cdata`` of torch 2.9 to 2.14, which may change.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from comfyui_fitv2 import FiT, FiTConfig

MIB = 1024 * 1024


class PeakMemory(TorchDispatchMode):
    """The peak of bytes in live storages that were made under it, without those of ``weights``."""

    def __init__(self, weights: torch.nn.Module) -> None:
        super().__init__()
        self.peak = self.alive = 0
        self._seen = {parameter.untyped_storage()._cdata for parameter in weights.parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size


def _fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention without a (tokens, tokens) matrix, which PyTorch's has on the meta device."""
    return torch.empty_like(query)


def main() -> None:
    print(
        f"{'model':10} {'dtype':6} {'batch':>5} {'tokens':>6} {'peak MiB':>9} {'factor':>7}"
        f" {'factor / width':>15}"
    )
    for preset in ("fitv2-b", "fitv2-xl", "fitv2-3b"):
        for dtype in (torch.bfloat16, torch.float32):
            for batch, side in ((2, 32), (8, 32), (2, 64), (2, 128)):
                _measure(preset, dtype, batch, side)


def _measure(preset: str, dtype: torch.dtype, batch: int, side: int) -> None:
    config = FiTConfig.preset(preset)
    # On the meta device sizes are real, and no arithmetic is done.
    model = FiT(config, device="meta", dtype=dtype, attention=_fused).requires_grad_(False)
    x = torch.empty(batch, config.in_channels, side, side, device="meta", dtype=dtype)
    t, y = torch.empty(batch, device="meta"), torch.empty(batch, device="meta", dtype=torch.long)
    with PeakMemory(model) as memory:
        model(x, t, y)
    peak = memory.peak / MIB
    factor = peak / (batch * side * side * dtype.itemsize * 0.01)
    name = str(dtype).removeprefix("torch.")[:6]
    what = f"{preset:10} {name:6} {batch:5} {side * side // 4:6}"
    print(f"{what} {peak:9.1f} {factor:7.3f} {factor / config.hidden_size:15.6f}")


if __name__ == "__main__":
    main()

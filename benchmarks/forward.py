"""A forward pass ÷ the matrix products and the attention that it consists of.

    python -m benchmarks.forward

Both are timed in turn at the same shapes in one run. What is above 1 are norms, modulation,
rotation, activations and copies. Goals for FiTv2-XL on a CPU: 1.12 in fp32, 1.35 in bf16. The
published code has 1.33 and 2.04 for 2 × 256 tokens, 1.20 and 1.74 for 2 × 1024.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from comfyui_fitv2 import FiT, FiTConfig

from .timing import DEVICE, interleaved, ratio


def bare_products(model: FiT, batch: int, tokens: int) -> Callable[[], None]:
    """Every linear layer on an input of its own shape, and attention at the blocks' shape."""
    config, like = model.config, {"device": DEVICE, "dtype": model.dtype}
    products: list[tuple[nn.Linear, torch.Tensor]] = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            per_image = "adaLN" in name or "t_embedder" in name
            rows = (batch,) if per_image else (batch, tokens)
            products.append((layer, torch.randn(*rows, layer.in_features, **like)))
    query, key, value = torch.randn(3, batch, config.num_heads, tokens, config.head_dim, **like)

    def run() -> None:
        for layer, x in products:
            layer(x)
        for _ in range(config.depth):
            F.scaled_dot_product_attention(query, key, value)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="fitv2-xl", help="a name of FiTConfig.preset")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args()
    threads = torch.get_num_threads()
    print(f"{arguments.preset} on {DEVICE}, {threads} threads; seconds of the fastest round")
    print(
        f"{'dtype':9} {'batch':9} {'products s':>10} {'eager s':>9} {'ratio':>6}"
        f" {'compiled s':>10} {'ratio':>6}"
    )
    config = FiTConfig.preset(arguments.preset)
    for dtype in (torch.float32, torch.bfloat16):
        model = FiT(config, device=DEVICE, dtype=dtype).eval().requires_grad_(False)
        for side in (16, 32):
            _measure(model, 2, side, arguments.rounds, not arguments.no_compile)


def _measure(model: FiT, batch: int, side: int, rounds: int, compiled: bool) -> None:
    config = model.config
    pixels = side * config.patch_size
    latents = torch.randn(batch, config.in_channels, pixels, pixels, device=DEVICE)
    t, y = torch.rand(batch, device=DEVICE), torch.arange(batch, device=DEVICE)
    functions: dict[str, Callable[[], object]] = {
        "products": bare_products(model, batch, side**2),
        "eager": lambda: model(latents, t, y),
    }
    if compiled:
        compiled_model = torch.compile(model)
        functions["compiled"] = lambda: compiled_model(latents, t, y)
    with torch.inference_mode():
        times = interleaved(functions, rounds)
    cells = [f"{min(times['products']):10.3f}"]
    for name, width in (("eager", 9), ("compiled", 10)):
        if name in times:
            cells.append(f"{min(times[name]):{width}.3f} {ratio(times, name, 'products'):6.2f}")
    dtype = str(model.dtype).removeprefix("torch.")
    print(f"{dtype:9} {f'{batch} × {side**2}':9} {' '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()

"""A forward pass ÷ the matrix products and the attention that it cannot do without.

    python -m benchmarks.forward

Both are timed in turn at the same shapes in one run: what is left above 1 are norms, modulation, rotation, activations and
copies. Goals for FiTv2-XL on a CPU: 1.12 in fp32, 1.35 in bf16. The published code is at 1.33 and 2.04 for 2 × 256 tokens, 1.20 and
1.74 for 2 × 1024.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from comfyui_fitv2 import FiT, FiTConfig

from .timing import interleaved, ratio


def bare_products(model: FiT, batch: int, tokens: int) -> Callable[[], None]:
    """Every linear layer of the model on an input of its own shape, and attention at the blocks' shape."""
    config, device, dtype = model.config, model.x_embedder.proj.weight.device, model.dtype
    products = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            per_image = "adaLN" in name or "t_embedder" in name
            products.append(
                (
                    layer,
                    torch.randn(
                        batch,
                        *([] if per_image else [tokens]),
                        layer.in_features,
                        device=device,
                        dtype=dtype,
                    ),
                )
            )
    query, key, value = torch.randn(
        3, batch, config.num_heads, tokens, config.head_dim, device=device, dtype=dtype
    )

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
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"{arguments.preset} on {device}, {torch.get_num_threads()} threads; seconds are of the quickest round"
    )
    print(
        f"{'dtype':9} {'batch':9} {'products s':>10} {'eager s':>9} {'ratio':>6} {'compiled s':>10} {'ratio':>6}"
    )
    for dtype in (torch.float32, torch.bfloat16):
        model = (
            FiT(FiTConfig.preset(arguments.preset), device=device, dtype=dtype)
            .eval()
            .requires_grad_(False)
        )
        for side in (16, 32):
            _measure(model, 2, side, arguments.rounds, not arguments.no_compile)


def _measure(model: FiT, batch: int, side: int, rounds: int, compiled: bool) -> None:
    device = model.x_embedder.proj.weight.device
    config = model.config
    latents = torch.randn(
        batch, config.in_channels, side * config.patch_size, side * config.patch_size, device=device
    )
    t, y = torch.rand(batch, device=device), torch.arange(batch, device=device)

    def forward(of: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return lambda: of(latents, t, y)

    functions: dict[str, Callable[[], object]] = {
        "products": bare_products(model, batch, side**2),
        "eager": forward(model),
    }
    if compiled:
        functions["compiled"] = forward(torch.compile(model))
    with torch.inference_mode():
        times = interleaved(functions, rounds)
    cells = [f"{min(times['products']):10.3f}"]
    for name in ("eager", "compiled")[: 1 + compiled]:
        cells.append(
            f"{min(times[name]):{9 if name == 'eager' else 10}.3f} {ratio(times, name, 'products'):6.2f}"
        )
    print(
        f"{str(model.dtype).removeprefix('torch.'):9} {f'{batch} × {side**2}':9} {' '.join(cells)}",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Eight images of eight sizes in one packed pass ÷ eight single passes, and ÷ one padded batch.

    python -m benchmarks.packed

Padded, every image is as long as the longest and attends under a mask, as the published code does it. Goals for FiTv2-B on a CPU: 0.95 and 0.75.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig
from comfyui_fitv2.attention import UniformBatch
from comfyui_fitv2.model import patchify
from comfyui_fitv2.resolution import Resolution, for_ratio

from .timing import interleaved, ratio

# As long as training allows, and shorter ones as a folder of pictures has them.
SIZES = [
    *(for_ratio(name, 256) for name in ("1:1", "3:2", "2:1", "1:3")),
    *(Resolution(*size) for size in ((192, 192), (256, 128), (128, 208), (160, 160))),
]


def padded(model: FiT, images: list[Tensor], t: Tensor, y: Tensor) -> Tensor:
    """The batch as rows of equal length; tokens beyond an image are masked out as keys."""
    grids = [(image.shape[1] // 2, image.shape[2] // 2) for image in images]
    lengths = [height * width for height, width in grids]
    longest = max(lengths)
    tables = [model.rotation(grid, images[0].device) for grid in grids]
    cos, sin = (
        torch.stack([F.pad(table[i], (0, 0, 0, longest - len(table[i]))) for table in tables])[
            :, None
        ]
        for i in (0, 1)
    )
    rows = torch.cat(
        [
            F.pad(patchify(image[None], 2), (0, 0, 0, longest - n))
            for image, n in zip(images, lengths, strict=True)
        ]
    )
    mask = (
        torch.arange(longest, device=rows.device)
        < torch.tensor(lengths, device=rows.device)[:, None]
    )[:, None, None]

    def masked(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    return model.transform(rows.to(model.dtype), t, y, UniformBatch((cos, sin), masked))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="fitv2-b", help="a name of FiTConfig.preset")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokens = [size.tokens for size in SIZES]
    print(
        f"{arguments.preset} on {device}, {torch.get_num_threads()} threads; {len(SIZES)} images of {min(tokens)} to {max(tokens)} tokens"
    )
    print(f"padded, {sum(tokens) / max(tokens) / len(tokens):.0%} of the tokens are real")
    print(f"{'dtype':9} {'packed s':>9} {'÷ singles':>10} {'÷ padded':>9}")
    for dtype in (torch.float32, torch.bfloat16):
        model = (
            FiT(FiTConfig.preset(arguments.preset), device=device, dtype=dtype)
            .eval()
            .requires_grad_(False)
        )
        images = [torch.randn(4, *size.latent_size, device=device) for size in SIZES]
        t, y = torch.rand(len(images), device=device), torch.arange(len(images), device=device)

        def singles(
            model: FiT = model, images: list[Tensor] = images, t: Tensor = t, y: Tensor = y
        ) -> None:
            for i, image in enumerate(images):
                model(image[None], t[i : i + 1], y[i : i + 1])

        with torch.inference_mode():
            times = interleaved(
                {
                    "packed": lambda m=model, x=images, t=t, y=y: m.forward_packed(x, t, y),
                    "singles": singles,
                    "padded": lambda m=model, x=images, t=t, y=y: padded(m, x, t, y),
                },
                arguments.rounds,
            )
        cells = f"{min(times['packed']):9.3f} {ratio(times, 'packed', 'singles'):10.2f} {ratio(times, 'packed', 'padded'):9.2f}"
        print(f"{str(dtype).removeprefix('torch.'):9} {cells}", flush=True)


if __name__ == "__main__":
    main()

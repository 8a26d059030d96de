"""Eight images of eight sizes in one packed pass ÷ eight single passes, and ÷ one padded batch.

    python -m benchmarks.packed

In the padded batch every image is as long as the longest and attends under a mask, as in the
published code. Goals for FiTv2-B on a CPU: 0.95 and 0.75.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from comfyui_fitv2 import FiT, FiTConfig
from comfyui_fitv2.model import patchify
from comfyui_fitv2.resolution import Resolution, for_ratio
from training.train.model import PaddedBatch

from .timing import DEVICE, interleaved, ratio

# Four sizes at the training length, and four shorter ones as a folder of images has them.
SIZES = [
    *(for_ratio(name, 256) for name in ("1:1", "3:2", "2:1", "1:3")),
    *(Resolution(*size) for size in ((192, 192), (256, 128), (128, 208), (160, 160))),
]


def padded(model: FiT, images: list[Tensor], t: Tensor, y: Tensor) -> Tensor:
    """A forward pass of the images as rows of equal length."""
    patch = model.config.patch_size
    grids = [(image.shape[1] // patch, image.shape[2] // patch) for image in images]
    rows = pad_sequence([patchify(image[None], patch)[0] for image in images], batch_first=True)
    return model.transform(rows.to(model.dtype), t, y, PaddedBatch(model.rotations(grids, t)))


def singles(model: FiT, images: list[Tensor], t: Tensor, y: Tensor) -> None:
    """A forward pass per image."""
    for i, image in enumerate(images):
        model(image[None], t[i : i + 1], y[i : i + 1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="fitv2-b", help="a name of FiTConfig.preset")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    tokens = [size.tokens for size in SIZES]
    print(
        f"{arguments.preset} on {DEVICE}, {torch.get_num_threads()} threads;"
        f" {len(SIZES)} images of {min(tokens)} to {max(tokens)} tokens"
    )
    print(f"padded, {sum(tokens) / max(tokens) / len(tokens):.0%} of the tokens are real")
    print(f"{'dtype':9} {'packed s':>9} {'÷ singles':>10} {'÷ padded':>9}")
    config = FiTConfig.preset(arguments.preset)
    for dtype in (torch.float32, torch.bfloat16):
        model = FiT(config, device=DEVICE, dtype=dtype).eval().requires_grad_(False)
        _measure(model, arguments.rounds)


def _measure(model: FiT, rounds: int) -> None:
    images = [torch.randn(4, *size.latent_size, device=DEVICE) for size in SIZES]
    t, y = torch.rand(len(images), device=DEVICE), torch.arange(len(images), device=DEVICE)
    with torch.inference_mode():
        times = interleaved(
            {
                "packed": lambda: model.forward_packed(images, t, y),
                "singles": lambda: singles(model, images, t, y),
                "padded": lambda: padded(model, images, t, y),
            },
            rounds,
        )
    gains = f"{ratio(times, 'packed', 'singles'):10.2f} {ratio(times, 'packed', 'padded'):9.2f}"
    dtype = str(model.dtype).removeprefix("torch.")
    print(f"{dtype:9} {min(times['packed']):9.3f} {gains}", flush=True)


if __name__ == "__main__":
    main()

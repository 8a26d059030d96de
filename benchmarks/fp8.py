"""What weights in fp8 cost: the error of the velocity, and of images, by the weights in fp8.

    python -m benchmarks.fp8

The bundled model draws images of many classes with its matrices in fp8, with everything else, and
with all weights. Its arithmetic stays in fp32. A scale for each row of a weight, which ComfyUI's
flags do not give, keeps small numbers within the range of fp8. The error of the velocity is its
RMS ÷ that of the velocity. The distance of images is PSNR in dB, of the median class and the worst.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from comfyui_fitv2 import load_checkpoint, sample
from comfyui_fitv2.autoencoder import load_autoencoder
from comfyui_fitv2.pixels import psnr
from devkit.environment import ROOT

TIMES = (0.1, 0.5, 0.9)
CHOICES: Mapping[str, Callable[[str], bool]] = {
    "matrices": lambda key: _is_matrix(key),
    "all others": lambda key: not _is_matrix(key),
    "AdaLN": lambda key: "adaLN" in key,
    "embedders": lambda key: "_embedder" in key,
    "final layer": lambda key: key.startswith("final_layer"),
    "all": lambda key: True,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=12, help="spread over all classes")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()

    loaded = load_checkpoint(
        ROOT / "models" / "fit" / "fitv2_flags256.safetensors", dtype=torch.float32
    )
    model = loaded.model.requires_grad_(False)
    vae = load_autoencoder(ROOT / "models" / "vae" / "fit_tiny_vae.safetensors")
    exact = {key: value.clone() for key, value in model.state_dict().items()}
    y = torch.arange(options.classes) * loaded.config.num_classes // options.classes
    noise = torch.randn(len(y), 4, 32, 32, generator=torch.manual_seed(0))

    def velocities() -> Tensor:
        return torch.stack([model(noise, torch.full((len(y),), t), y) for t in TIMES])

    def images() -> Tensor:
        return vae.decode(sample(model, noise, y, steps=options.steps, guidance=2.0)).clamp(0, 1)

    with torch.inference_mode():
        velocity, reference = velocities(), images()
        print("| weights in fp8 | format | scales | velocity error | median dB | worst dB |")
        print("|---|---|---|---|---|---|")
        for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            for name, chosen in CHOICES.items():
                for scales, store in (("none", _plain), ("rows", _by_row)):
                    stored = {
                        key: store(value, dtype) if chosen(key) else value
                        for key, value in exact.items()
                    }
                    model.load_state_dict(stored)
                    error = (velocities() - velocity).norm() / velocity.norm()
                    decibels = sorted(map(psnr, images(), reference))
                    print(
                        f"| {name} | {str(dtype)[6:]} | {scales} | {error:.1%} "
                        f"| {decibels[len(decibels) // 2]:.0f} | {decibels[0]:.0f} |",
                        flush=True,
                    )


def _is_matrix(key: str) -> bool:
    """As nodes/host/precision.py has it, which needs a ComfyUI."""
    return key.startswith("blocks.") and key.endswith(".weight") and ".adaLN_" not in key


def _plain(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).float()


def _by_row(weight: Tensor, dtype: torch.dtype) -> Tensor:
    scale = weight.abs().amax(-1, keepdim=True).clamp_min(1e-12) / torch.finfo(dtype).max
    return (weight / scale).to(dtype).float() * scale


if __name__ == "__main__":
    main()

"""The tiny VAE: plain convolutions from 8 × 8 pixels to one latent and back, without a posterior.

Layers and keys are those of TAESD (github.com/madebyollin/taesd), which ComfyUI's VAELoader reads.
The encoder and the decoder work in the model's scale; ``vae_scale`` and ``vae_shift`` lead to the
host's unscaled latents, which are encoder / ``vae_scale`` + ``vae_shift``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from .checkpoint_error import CheckpointError
from .safetensors_file import read_safetensors
from .whole_file import write_whole

_WIDTH = 64
_HALVINGS = 3
_BLOCKS = 3
"""Number of residual blocks between two changes of size."""
_BOUND = 3.0
"""The decoder squashes latents to −3..3, so that no outlier reaches its convolutions."""


class AutoencoderError(ValueError):
    """A file that is not a usable tiny VAE; the message says which, what it is, and what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")


class ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(_conv(), nn.ReLU(), _conv(), nn.ReLU(), _conv())

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


class SoftBound(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return _BOUND * torch.tanh(x / _BOUND)


class TinyAutoencoder(nn.Module):
    """A TAESD-shaped autoencoder whose sides are multiples of 8 pixels."""

    vae_scale: Tensor
    vae_shift: Tensor

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.channels = channels
        """Number of latent channels."""
        self.taesd_encoder = _encoder(channels)
        self.taesd_decoder = _decoder(channels)
        self.register_buffer("vae_scale", torch.tensor(1.0))
        self.register_buffer("vae_shift", torch.tensor(0.0))

    @property
    def scale_factor(self) -> float:
        """The ``LatentFormat.scale_factor`` of models that are trained on these latents."""
        return self.vae_scale.item()

    def encode(self, images: Tensor) -> Tensor:
        """Images (batch, 3, H, W) in 0..1 to latents (batch, channels, H/8, W/8).

        They are in the model's scale, already multiplied by ``scale_factor`` (ComfyUI's LATENT wire
        carries them unscaled).
        """
        return self.taesd_encoder(images) + self.vae_shift * self.vae_scale

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, channels, H, W) in the model's scale to images (batch, 3, 8·H, 8·W).

        Images are in 0..1.
        """
        return self.taesd_decoder(latents - self.vae_shift * self.vae_scale).clamp(0, 1)


def load_autoencoder(path: str | os.PathLike[str]) -> TinyAutoencoder:
    """Read a tiny VAE, in eval mode and fp32.

    Raises ``AutoencoderError`` for any other file, and ``FileNotFoundError`` where there is none.
    """
    path = Path(path)
    try:
        tensors, _ = read_safetensors(path)
    except CheckpointError as error:
        raise AutoencoderError(path, f"not a readable safetensors file: {error.what}") from None
    if not is_tiny_autoencoder(tensors):
        first = ", ".join(sorted(tensors)[:3])
        raise AutoencoderError(
            path,
            f"not a tiny VAE: its {len(tensors)} tensors begin with {first}; expected "
            "taesd_encoder.*.",
        )
    channels = len(tensors["taesd_encoder.14.bias"]) if "taesd_encoder.14.bias" in tensors else 4
    with torch.device("meta"):
        autoencoder = TinyAutoencoder(channels)
    expected = autoencoder.state_dict()
    if wrong := sorted(set(expected) ^ set(tensors)) or [
        key for key, tensor in expected.items() if tensors[key].shape != tensor.shape
    ]:
        raise AutoencoderError(
            path,
            f"not a complete tiny VAE: {len(wrong)} tensors are missing, unknown or of another "
            f"shape, such as {wrong[0]}.",
        )
    autoencoder.load_state_dict(
        {key: tensor.float() for key, tensor in tensors.items()}, strict=True, assign=True
    )
    return autoencoder.eval().requires_grad_(False)


def save_autoencoder(
    path: str | os.PathLike[str], autoencoder: TinyAutoencoder, description: str = ""
) -> None:
    """Write a file for ComfyUI's VAELoader, atomically; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.contiguous() for key, tensor in autoencoder.state_dict().items()}
    with write_whole(path) as temporary:
        save_file(tensors, temporary, {"format": "pt", "description": description})


def is_tiny_autoencoder(keys: Iterable[str]) -> bool:
    """Whether these are the keys of a tiny VAE's file."""
    return any(key.startswith("taesd_encoder.") for key in keys)


def _encoder(channels: int) -> nn.Sequential:
    halvings = (
        layer for _ in range(_HALVINGS) for layer in (_conv(stride=2, bias=False), *_blocks())
    )
    return nn.Sequential(_conv(3), ResidualBlock(), *halvings, _conv(to=channels))


def _decoder(channels: int) -> nn.Sequential:
    doublings = (
        layer
        for _ in range(_HALVINGS)
        for layer in (*_blocks(), nn.Upsample(scale_factor=2), _conv(bias=False))
    )
    return nn.Sequential(
        SoftBound(), _conv(channels), nn.ReLU(), *doublings, ResidualBlock(), _conv(to=3)
    )


def _blocks() -> list[ResidualBlock]:
    return [ResidualBlock() for _ in range(_BLOCKS)]


def _conv(
    channels: int = _WIDTH, to: int = _WIDTH, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    return nn.Conv2d(channels, to, kernel_size=3, padding=1, stride=stride, bias=bias)

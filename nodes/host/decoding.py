"""Latents to images with the host's VAE, and what tells two VAEs apart."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from .model_key import model_key, number_of

Vae = Any
"""The host's VAE, which it annotates nowhere."""


def parts_of(latent: io.Latent.LatentDict) -> Iterator[Tensor]:
    """The tensors of a LATENT: its batch, or each image of a pack."""
    samples: Any = latent["samples"]
    yield from samples.unbind() if samples.is_nested else [samples]


def decode(vae: Vae, latents: Tensor) -> Tensor:
    """Images (B, H, W, 3) of latents (B, C, H / 8, W / 8), as VAE Decode makes them."""
    images = vae.decode(latents)
    # Of a VAE for video, whose frames count as images.
    return images.reshape(-1, *images.shape[-3:]) if images.ndim == 5 else images


def decoding_key(vae: Vae, latents: Tensor) -> Hashable | None:
    """A key of all that decides the images of latents; None where the VAE has none."""
    of_weights = model_key(vae.patcher)
    number = number_of(vae)
    if of_weights is None or number is None:
        return None
    plain = latents.detach().cpu().contiguous()
    content = hashlib.sha256(plain.flatten().view(torch.uint8).numpy().tobytes()).digest()
    return of_weights, number, tuple(plain.shape), plain.dtype, content

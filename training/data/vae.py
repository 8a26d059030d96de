"""The VAEs between images and the latents that a model sees: the bundled tiny one, and Stable
Diffusion's in any of its files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from comfyui_fitv2.autoencoder import TinyAutoencoder, is_tiny_autoencoder, load_autoencoder
from comfyui_fitv2.metadata import SD_LATENT_FORMAT
from comfyui_fitv2.resolution import VAE_FACTOR

from ..whole_files import file_digest
from .vae_files import (
    TINY,
    VAEError,
    refuse_other_file,
    refuse_other_model,
    shifted,
    vae_path,
)

__all__ = [
    "SD_LAYOUT",
    "TINY",
    "VAE",
    "VAEError",
    "channels_last",
    "fingerprint",
    "is_bundled",
    "open_vae",
    "same_latents",
    "vae_digest",
]

Module = TypeVar("Module", bound=nn.Module)

SD_LAYOUT: dict[str, Any] = {
    "in_channels": 3,
    "out_ch": 3,
    "z_channels": 4,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
}
"""Stable Diffusion's VAE in its own terms ("ddconfig"); its single files hold weights only."""
TEST_SIDE = 40
"""Height and width in pixels of the image of a fingerprint."""
_SAME_LATENTS = 0.1
"""Fingerprints that differ by less than this share are of the same encoder."""


class VAE(ABC):
    """Turns images into latents in the scale that a model sees, and back, all fp32.

    Images are (batch, 3, H, W) in 0..1, with H and W multiples of 8.
    """

    channels: int
    """Latent channels."""
    scale_factor: float
    """The model's latents are the VAE's own times this."""
    posterior: bool
    """Whether an image gives a distribution of latents; if not, it gives no standard deviations."""

    @abstractmethod
    def moments(self, images: Tensor) -> Tensor:
        """(batch, moments, channels, H/8, W/8): the mean and, with a posterior, the standard
        deviation."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, channels, H/8, W/8) to images, clamped to 0..1."""

    def reconstruct(self, images: Tensor) -> Tensor:
        """The images as the VAE alone would show them: the mean of their latents, decoded."""
        return self.decode(self.moments(images)[:, 0])


def open_vae(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    scale_factor: float | None = None,
) -> VAE:
    """Load a VAE: "tiny", a file in TAESD layout, a diffusers AutoencoderKL folder (or that of a
    pipeline, with one in ``vae``), a single file of Stable Diffusion's VAE, or a model by its name
    on Hugging Face, if it was downloaded before.

    ``scale_factor`` is for single files, which do not say theirs; without it they get 0.18215, that
    of Stable Diffusion 1.x. ``dtype`` is that of weights and activations. Raises ``VAEError`` or
    ``AutoencoderError`` for files that are none of these, ``FileNotFoundError`` for missing ones.
    """
    path = vae_path(name)
    if path.is_file() and _is_tiny(path):
        if scale_factor is not None:
            raise VAEError(path, "a tiny VAE stores its own scale; omit --scale-factor.")
        tiny = load_autoencoder(path)
        scale = tiny.scale_factor  # before it is rounded with the weights
        return _Tiny(channels_last(tiny.to(device, dtype)), device, dtype, scale)
    if path.is_file():
        refuse_other_file(path, scale_factor)
    else:
        refuse_other_model(path)
    with _quiet_diffusers(path):
        network = _load_kl(path).eval().requires_grad_(False)
        config = network.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        if factor != VAE_FACTOR:
            raise VAEError(
                path,
                f"its latents cover {factor} × {factor} pixels; "
                f"FiT takes {VAE_FACTOR} × {VAE_FACTOR}.",
            )
        if config.shift_factor:
            raise VAEError(path, shifted(config))
        network.to(device=device, dtype=dtype)
    return _KL(network, device, dtype, scale_factor or config.scaling_factor)


def vae_digest(name: str) -> str:
    """A digest of a VAE's weights and configuration, wherever they are. Raises as ``open_vae``."""
    path = vae_path(name)
    if path.is_file():
        return file_digest(path)
    suffixes = (".json", ".safetensors", ".bin")
    return file_digest(*sorted(file for file in path.iterdir() if file.suffix in suffixes))


def fingerprint(vae: VAE) -> tuple[float, ...]:
    """The latents of a fixed test image, by which VAEs with the same encoder are known.

    (channels · 25) numbers in the model's scale. Their decoders may differ.
    """
    y, x = torch.meshgrid(*[torch.linspace(0, 1, TEST_SIDE)] * 2, indexing="ij")
    disc = ((x - 0.4) ** 2 + (y - 0.6) ** 2 < 0.08).float()
    image = torch.stack([x, (1 - y) * disc, 0.5 + 0.5 * torch.sin(12 * x * y)])
    latents = vae.moments(image[None])[0, 0]
    return tuple(round(number, 3) for number in latents.flatten().tolist())


def same_latents(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two fingerprints are of the same latents, apart from rounding in 16 bits."""
    if len(one) != len(other):
        return False
    first, second = torch.tensor(one), torch.tensor(other)
    return bool((first - second).norm() < _SAME_LATENTS * first.norm())


def is_bundled(recorded: Sequence[float] | None) -> bool:
    """Whether a recorded fingerprint is that of the bundled VAE, whatever its file was called."""
    return bool(recorded) and same_latents(recorded, fingerprint(open_vae(TINY)))


def channels_last(network: Module) -> Module:
    """In the memory order of decoded images; convolutions on a CPU take a quarter less time."""
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclass(slots=True)
class _Tiny(VAE):
    network: TinyAutoencoder
    device: torch.device | str
    dtype: torch.dtype
    scale_factor: float

    def __post_init__(self) -> None:
        self.channels, self.posterior = self.network.channels, False

    @torch.inference_mode()
    def moments(self, images: Tensor) -> Tensor:
        return self.network.encode(images.to(self.device, self.dtype)).float()[:, None]

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        return self.network.decode(latents.to(self.device, self.dtype)).float()


@dataclass(slots=True)
class _KL(VAE):
    network: Any
    """An AutoencoderKL, whose annotations do not fit its own arguments and results."""
    device: torch.device | str
    dtype: torch.dtype
    scale_factor: float

    def __post_init__(self) -> None:
        self.channels, self.posterior = self.network.config.latent_channels, True

    @torch.inference_mode()
    def moments(self, images: Tensor) -> Tensor:
        scaled = (images * 2 - 1).to(self.device, self.dtype)
        posterior = self.network.encode(scaled, return_dict=False)[0]
        # The exponential in fp32: the logarithm is too coarse for it in 16 bits.
        std = torch.exp(0.5 * posterior.logvar.float())
        return torch.stack([posterior.mean.float(), std], dim=1) * self.scale_factor

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        unscaled = (latents / self.scale_factor).to(self.device, self.dtype)
        images = self.network.decode(unscaled, return_dict=False)[0]
        return (images.float() / 2 + 0.5).clamp(0, 1)


def _is_tiny(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return is_tiny_autoencoder(dict.fromkeys(file.keys()))
    except SafetensorError:
        return False  # a pickle, perhaps


def _load_kl(path: Path) -> Any:
    try:
        return _load_kl_folder(path) if path.is_dir() else _load_kl_file(path)
    except VAEError:
        raise
    except Exception as error:  # diffusers has no error of its own for wrong files
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        kind = (
            "a diffusers AutoencoderKL folder"
            if path.is_dir()
            else "a tiny VAE or a single file of Stable Diffusion's VAE"
        )
        raise VAEError(path, f"not {kind} ({reason}).") from error


def _load_kl_folder(path: Path) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    loaded: Any = AutoencoderKL.from_pretrained(
        str(path), local_files_only=True, output_loading_info=True
    )
    network, loading = loaded
    if missing := loading["missing_keys"]:
        raise VAEError(
            path,
            f"{len(missing)} of its weights are missing, such as {missing[0]}. "
            "Download or copy it again.",
        )
    return network


def _load_kl_file(path: Path) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    first_stage = {"params": {"ddconfig": SD_LAYOUT}}
    scale = SD_LATENT_FORMAT.scale_factor
    model = {"params": {"scale_factor": scale, "first_stage_config": first_stage}}
    return AutoencoderKL.from_single_file(
        str(path), original_config={"model": model}, local_files_only=True
    )


@contextmanager
def _quiet_diffusers(path: Path) -> Iterator[None]:
    """Without its warnings of casts, and of weights that are refused here anyway."""
    try:
        from diffusers.utils import logging
    except ImportError:
        raise VAEError(
            path, "not a tiny VAE, and others need diffusers: python -m pip install diffusers"
        ) from None
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)

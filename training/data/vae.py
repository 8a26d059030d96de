"""The VAEs between pictures and the latents that a model sees: the bundled tiny one, and Stable Diffusion's in any of its files."""

from __future__ import annotations

import hashlib
import json
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from comfyui_fitv2.autoencoder import TinyAutoencoder, is_tiny_autoencoder, load_autoencoder
from comfyui_fitv2.resolution import VAE_FACTOR

from .latent_set import SD_SCALE

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

TINY = "tiny"
TINY_FILE = Path(__file__).parents[2] / "models" / "vae" / "fit_tiny_vae.safetensors"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_SD_CONFIG = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "sample_size": 512,
    "scaling_factor": SD_SCALE,
}
"""Stable Diffusion's VAE; its single files hold weights only."""


class VAEError(ValueError):
    """A VAE that cannot be used; the message names it, what it is, and what to do."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")


class VAE(ABC):
    """Images in 0..1, (batch, 3, H, W) with sides in multiples of 8, to and from latents in the scale that a model sees, all fp32."""

    channels: int
    scale_factor: float
    """The model's scale over the VAE's own."""
    posterior: bool
    """Whether an image is a distribution of latents; if not, ``moments`` has no standard deviations."""

    @abstractmethod
    def moments(self, images: Tensor) -> Tensor:
        """(batch, moments, channels, H/8, W/8): the means and, with a posterior, the standard deviations."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (batch, channels, H/8, W/8) to images, clamped to 0..1."""


def open_vae(
    name: str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    scale_factor: float | None = None,
) -> VAE:
    """``name`` is "tiny", a file in TAESD layout, a diffusers AutoencoderKL folder (or a pipeline's with one in ``vae``), or a single file of Stable
    Diffusion's VAE. ``scale_factor`` is for files that cannot tell theirs (a single file counts as 0.18215, Stable Diffusion 1.x). Weights and
    sums are in ``dtype``. Raises ``VAEError`` or ``AutoencoderError`` on files that are none of these, ``FileNotFoundError`` where there is none."""
    path = _weights_path(name)
    if path.is_file() and _is_tiny(path):
        if scale_factor is not None:
            raise VAEError(path, "a tiny VAE says its scale itself; leave --scale-factor away.")
        # Channels last, as pictures come: three quarters of the time on a CPU.
        tiny = load_autoencoder(path)
        scale = tiny.scale_factor  # before it is rounded with the weights
        return _Tiny(
            tiny.to(device, dtype).to(memory_format=torch.channels_last), device, dtype, scale
        )  # type: ignore[call-overload]
    network = _load_kl(path)
    config: Any = network.config
    factor = 2 ** (len(config.block_out_channels) - 1)
    if factor != VAE_FACTOR:
        raise VAEError(
            path,
            f"its latents cover {factor} × {factor} pixels; FiT takes {VAE_FACTOR} × {VAE_FACTOR}.",
        )
    if config.shift_factor:
        raise VAEError(
            path,
            f"its latents are shifted by {config.shift_factor}; a FiT checkpoint can name a scale only. Use a VAE such as Stable Diffusion's.",
        )
    nn.Module.to(
        network.eval().requires_grad_(False), device=device, dtype=dtype
    )  # diffusers' own warns of every cast
    return _KL(network, device, dtype, scale_factor or config.scaling_factor)


def fingerprint(name: str) -> str:
    """Changes with the VAE's weights and configuration, wherever they lie."""
    path = _weights_path(name)
    files = (
        [path]
        if path.is_file()
        else sorted(p for p in path.iterdir() if p.suffix in (".json", ".safetensors", ".bin"))
    )
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


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
    network: AutoencoderKL
    device: torch.device | str
    dtype: torch.dtype
    scale_factor: float

    def __post_init__(self) -> None:
        config: Any = self.network.config
        self.channels, self.posterior = config.latent_channels, True

    @torch.inference_mode()
    def moments(self, images: Tensor) -> Tensor:
        posterior: Any = self.network.encode(
            (images * 2 - 1).to(self.device, self.dtype), return_dict=False
        )[0]  # type: ignore[call-arg]
        # The deviation from the logarithm in fp32: its exponent is too coarse in 16 bits.
        deviation = torch.exp(0.5 * posterior.logvar.float())
        return torch.stack([posterior.mean.float(), deviation], dim=1) * self.scale_factor

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        images: Any = self.network.decode(
            (latents / self.scale_factor).to(self.device, self.dtype), return_dict=False
        )[0]  # type: ignore[call-arg]
        return (images.float() / 2 + 0.5).clamp(0, 1)


def _weights_path(name: str) -> Path:
    """A file, or the folder of a diffusers model."""
    path = TINY_FILE if name == TINY else Path(name).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f'{path}: no such VAE. Name "{TINY}", a file, or a diffusers folder.'
        )
    if path.is_dir():
        folder = next((p for p in (path, path / "vae") if (p / "config.json").is_file()), None)
        if folder is None:
            raise VAEError(
                path,
                "a folder without config.json, so no diffusers AutoencoderKL. Name that folder, or a file.",
            )
        return folder
    return path


def _is_tiny(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return is_tiny_autoencoder(dict.fromkeys(file.keys()))
    except SafetensorError:
        return False  # a pickle, perhaps


def _load_kl(path: Path) -> AutoencoderKL:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.utils import logging

    logging.set_verbosity_error()  # what it warns of is refused below
    try:
        if path.is_dir():
            found = json.loads((path / "config.json").read_text(encoding="utf-8")).get(
                "_class_name"
            )
            if found != "AutoencoderKL":
                raise VAEError(
                    path, f"a diffusers {found or 'model without a class'}, not an AutoencoderKL."
                )
            loaded: Any = AutoencoderKL.from_pretrained(
                str(path), local_files_only=True, output_loading_info=True
            )
            network, loading = loaded
            if absent := loading["missing_keys"]:
                raise VAEError(
                    path,
                    f"{len(absent)} of its weights are missing, such as {absent[0]}. Download or copy it again.",
                )
            return network
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(_SD_CONFIG), encoding="utf-8")
            return AutoencoderKL.from_single_file(str(path), config=folder, local_files_only=True)
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

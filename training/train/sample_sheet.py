"""The sample sheet: what the moving average draws of the same noise every time, classes by aspect ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from comfyui_fitv2.config import LatentFormat
from comfyui_fitv2.contact_sheet import SheetCell, contact_sheet
from comfyui_fitv2.preview import preview_features
from comfyui_fitv2.resolution import TOKEN_PIXELS, VAE_FACTOR, Resolution, parse_size
from comfyui_fitv2.sampling import sample

from ..data.latent_set import LatentSetInfo
from ..data.vae import TINY, VAE, open_vae
from ..seeds import image_generator
from .config import ConfigError, SamplesConfig
from .model import TrainedFiT


class SampleSheet:
    """Draws the sheet of a run. Raises ``ConfigError`` on sizes that cannot be drawn, and ``VAEError`` on a VAE that cannot decode them."""

    def __init__(
        self,
        config: SamplesConfig,
        info: LatentSetInfo,
        class_names: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.format = LatentFormat(**info.latent_format)
        vae = config.vae or (TINY if info.vae == TINY else "")
        self.vae: VAE | None = open_vae(vae, device) if vae else None
        self.class_names = class_names
        self.classes = (
            np.linspace(0, len(class_names) - 1, min(config.classes, len(class_names)))
            .round()
            .astype(int)
            .tolist()
        )
        try:
            self.sizes = {
                name.strip(): parse_size(name, (info.resolution // TOKEN_PIXELS) ** 2)
                for name in config.sizes.split(",")
            }
        except ValueError as error:
            raise ConfigError(f"samples.sizes: {error}") from None

    def draw(self, model: TrainedFiT, title: str) -> Image.Image:
        """The sheet of ``model`` as it is, in eval mode or not. Where its weights are sharded every process must draw."""
        cells = [
            SheetCell(image, row=self.class_names[label], column=name)
            for name, size in self.sizes.items()
            for label, image in zip(self.classes, self._images(model, size), strict=True)
        ]
        return contact_sheet(cells, title)

    def _images(self, model: TrainedFiT, size: Resolution) -> list[Image.Image]:
        """One image a class."""
        shape = (model.config.in_channels, *size.latent_size)
        noise = torch.stack(
            [
                torch.randn(shape, generator=image_generator(self.config.seed, label))
                for label in self.classes
            ]
        ).to(self.device)
        y = torch.tensor(self.classes, device=self.device)
        latents = sample(model, noise, y, steps=self.config.steps, cfg_scale=self.config.cfg_scale)
        pixels = (
            self.vae.decode(latents).cpu()
            if self.vae
            else preview(latents.float().cpu(), self.format)
        )
        return [
            Image.fromarray((image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
            for image in pixels
        ]


def preview(latents: Tensor, latent_format: LatentFormat) -> Tensor:
    """Images (batch, 3, 8·H, 8·W) in 0..1 guessed from scaled ``latents`` (batch, C, H, W); without colours in the format, channels 0 to 2 as they are."""
    factors = latent_format.latent_rgb_factors
    if factors is None:
        rgb = latents[:, [min(i, latents.shape[1] - 1) for i in range(3)]] / 4
    else:
        features = latents if len(factors) == latents.shape[1] else preview_features(latents)
        bias = torch.tensor(latent_format.latent_rgb_factors_bias or [0.0] * 3)
        rgb = torch.einsum("bfhw,fc->bchw", features, torch.tensor(factors)) + bias[:, None, None]
    small = ((rgb + 1) / 2).nan_to_num(0.5).clamp(0, 1)
    return small.repeat_interleave(VAE_FACTOR, -2).repeat_interleave(VAE_FACTOR, -1)


def save_sheet(sheet: Image.Image, path: Path, trackers: list[Any], step: int) -> None:
    """As PNG, whole or not at all, and to the trackers that take images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        sheet.save(temporary, "PNG")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    for tracker in trackers:
        if hasattr(tracker, "log_images"):
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"samples": np.asarray(sheet)[None]}, step=step, **layout)

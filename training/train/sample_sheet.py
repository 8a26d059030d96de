"""The sample sheet: images that the moving average generates, always from the same noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from comfyui_fitv2.pixels import to_bytes
from comfyui_fitv2.preview import preview
from comfyui_fitv2.resolution import TOKEN_PIXELS, Resolution, describe_size, parse_sizes
from comfyui_fitv2.sampling import sample
from sheets.contact_sheet import SheetCell, contact_sheet

from ..data.latent_set import LatentSetInfo
from ..data.vae import TINY, VAE, open_vae
from ..seeds import image_generator
from ..whole_files import write_whole
from .config import ConfigError, SamplesConfig
from .model import TrainedFiT


class SampleSheet:
    """Renders the sheet of a run: one row per class, one column per size.

    Raises ``ConfigError`` on sizes that cannot be generated, and ``VAEError`` on a VAE that cannot
    decode them.
    """

    def __init__(
        self,
        config: SamplesConfig,
        info: LatentSetInfo,
        class_names: tuple[str, ...],
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.latent_format = info.latent_format
        vae = config.vae or (TINY if info.vae == TINY else "")
        self.vae: VAE | None = open_vae(vae, device) if vae else None
        self.class_names = class_names
        count = min(config.classes, len(class_names))
        spread = np.linspace(0, len(class_names) - 1, count)
        self.class_ids: list[int] = spread.round().astype(int).tolist()
        try:
            tokens = (info.image_size // TOKEN_PIXELS) ** 2
            self.sizes = parse_sizes(", ".join(config.sizes), tokens)
        except ValueError as error:
            raise ConfigError(f"samples.sizes: {error}") from None

    def render(self, model: TrainedFiT, title: str) -> Image.Image:
        """The sheet of ``model``. Where its weights are sharded, every process must render."""
        columns = [self._cells(model, size) for size in self.sizes.values()]
        return contact_sheet(
            [list(row) for row in zip(*columns, strict=True)],
            rows=[self.class_names[class_id] for class_id in self.class_ids],
            columns=list(self.sizes),
            title=title,
        )

    def _cells(self, model: TrainedFiT, size: Resolution) -> list[SheetCell]:
        """One image of this size per class."""
        images = [Image.fromarray(pixels) for pixels in to_bytes(self._images(model, size))]
        return [SheetCell(image, describe_size(*image.size)) for image in images]

    def _images(self, model: TrainedFiT, size: Resolution) -> Tensor:
        """(classes, 3, height, width) in 0..1, on the CPU."""
        shape = (model.config.in_channels, *size.latent_size)
        generators = [image_generator(self.config.seed, class_id) for class_id in self.class_ids]
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators])
        y = torch.tensor(self.class_ids, device=self.device)
        latents = sample(
            model,
            noise.to(self.device),
            y,
            steps=self.config.steps,
            guidance=self.config.guidance_scale,
        )
        if self.vae:
            return self.vae.decode(latents).cpu()
        return preview(latents.float().cpu(), self.latent_format)


def save_sheet(sheet: Image.Image, path: Path, trackers: list[Any], step: int) -> None:
    """Write the sheet atomically as PNG, and log it with the trackers that take images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as temporary:
        sheet.save(temporary, "PNG")
    for tracker in trackers:
        if hasattr(tracker, "log_images"):
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"samples": np.asarray(sheet)[None]}, step=step, **layout)

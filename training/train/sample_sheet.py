"""The sample sheet: images that the moving average generates, always from the same noise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.pixels import to_bytes
from comfyui_fitv2.preview import preview
from comfyui_fitv2.resolution import TOKEN_PIXELS, Resolution, describe_size, parse_sizes
from comfyui_fitv2.sampling import sample
from sheets.contact_sheet import SheetCell, contact_sheet
from sheets.text import legible

from ..data.latent_set import LatentSetInfo
from ..data.vae import TINY, VAE, fingerprint, is_bundled, open_vae, same_latents
from ..seeds import image_generator
from ..whole_files import write_whole
from .config import ConfigError, SamplesConfig
from .model import TrainedFiT

_TIMES = re.compile(r"(\d+(?:\.\d+)?) ?[x×](?!\s*\d)")
"""A square as a multiple of the trained side, such as 1.5x; 256x192 is none."""


class SampleSheet:
    """Renders the sheet of a run: one row per class, one column per size.

    ``class_names`` are the model's classes, and ``class_map`` those that the run is trained on.
    Raises ``ConfigError`` on sizes that cannot be generated, and ``VAEError`` on a VAE that cannot
    decode them.
    """

    def __init__(
        self,
        config: SamplesConfig,
        info: LatentSetInfo,
        class_names: tuple[str, ...],
        class_map: np.ndarray,
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.latent_format = info.latent_format
        vae = config.vae or (TINY if info.vae == TINY or is_bundled(info.fingerprint) else "")
        self.vae: VAE | None = open_vae(vae, device) if vae else None
        if (
            self.vae
            and info.fingerprint
            and not same_latents(info.fingerprint, fingerprint(self.vae))
        ):
            raise ConfigError(
                f"samples.vae: {vae} is another VAE than that of the latent set, {info.vae}."
            )
        self.class_names = class_names
        trained = np.unique(class_map)  # an adapter's model has more classes than its data
        spread = np.linspace(0, len(trained) - 1, min(config.classes, len(trained)))
        self.class_ids: list[int] = trained[spread.round().astype(int)].tolist()
        side = info.image_size // TOKEN_PIXELS
        self.trained_tokens = side**2
        try:
            self.sizes = parse_sheet_sizes(config.sizes, info.image_size)
        except ValueError as error:
            raise ConfigError(f"samples.sizes: {error}") from None
        try:
            method = Extrapolation.parse(config.extrapolation)
        except ValueError as error:
            raise ConfigError(f"samples.extrapolation: {error}") from None
        self.beyond = replace(method, train_length=max(side, 2))

    def render(self, model: TrainedFiT, title: str) -> Image.Image:
        """The sheet of ``model``. Where its weights are sharded, every process must render."""
        columns = [self._cells(model, size) for size in self.sizes.values()]
        return contact_sheet(
            [list(row) for row in zip(*columns, strict=True)],
            rows=[legible(self.class_names[i], f"class {i}") for i in self.class_ids],
            columns=[self._column(name, size) for name, size in self.sizes.items()],
            title=title,
        )

    def _column(self, name: str, size: Resolution) -> str:
        extrapolation = self.extrapolation(size)
        return name if extrapolation is None else f"{name} · {extrapolation.label}"

    def extrapolation(self, size: Resolution) -> Extrapolation | None:
        """None, which is the model's own, for sizes with no more tokens than were trained on."""
        return self.beyond if size.tokens > self.trained_tokens else None

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
            extrapolation=self.extrapolation(size),
        )
        if self.vae:
            return self.vae.decode(latents).cpu()
        return preview(latents.float().cpu(), self.latent_format)


def parse_sheet_sizes(sizes: Sequence[str], image_size: int) -> dict[str, Resolution]:
    """The sizes of ``samples.sizes``, by the text that each was written as.

    Raises ``ValueError`` on one that cannot be read.
    """

    names: dict[str, str] = {}

    def in_pixels(times: re.Match[str]) -> str:
        side = round(float(times[1]) * image_size)
        names[f"{side}x{side}"] = times[0]
        return f"{side}x{side}"

    text = _TIMES.sub(in_pixels, ", ".join(sizes))
    parsed = parse_sizes(text, (image_size // TOKEN_PIXELS) ** 2)
    return {names.get(written, written): size for written, size in parsed.items()}


def save_sheet(sheet: Image.Image, path: Path, trackers: list[Any], step: int) -> None:
    """Write the sheet atomically as PNG, and log it with the trackers that take images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as temporary:
        sheet.save(temporary, "PNG")
    for tracker in trackers:
        if hasattr(tracker, "log_images"):
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"samples": np.asarray(sheet)[None]}, step=step, **layout)

"""FiT Sweep Decoder: latents to images, with progress, and only those that changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..comfyui_fitv2.pixels import to_bytes
from ..sheets.contact_sheet import mosaic
from . import host
from .sweep import FIT_SWEEP
from .sweep_cells import Sweep

KEPT = host.CellCache(512 << 20)
"""Decoded images: room for 680 of 256 × 256 pixels."""


class FiTSweepDecoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSweepDecoder",
            display_name="FiT Sweep Decoder",
            category="FiT",
            description="Decodes a list of latents as VAE Decode does, with one progress bar and a "
            "preview of all images. Latents that were decoded before are not decoded again.",
            search_aliases=[
                "fitv2",
                "vae decode",
                "decode list",
                "latents to images",
                "decode progress",
            ],
            is_input_list=True,
            inputs=[
                io.Latent.Input("latents", tooltip="From FiT Sweep Sampler."),
                io.Vae.Input("vae", tooltip="The VAE of the model, from Load VAE."),
                FIT_SWEEP.Input(
                    "sweep",
                    optional=True,
                    tooltip="From FiT Sweep Sampler: the preview shows every image in its place.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images",
                    is_output_list=True,
                    tooltip="One image per latent, in their order, for FiT Compare Sheet.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        latents: list[io.Latent.LatentDict],
        vae: list[host.Vae],
        sweep: list[Sweep] | None = None,
    ) -> io.NodeOutput:
        parts = [part for latent in latents for part in host.parts_of(latent)]
        if not parts:
            raise ValueError(
                "There are no latents to decode. Connect FiT Sweep Sampler, or look at why the "
                "node before gives none."
            )
        columns = len(sweep[0].columns) if sweep else math.ceil(len(parts) ** 0.5)
        rows = math.ceil(len(parts) / columns)
        size = host.preview_size(max(rows, columns))
        arrange = partial(_arranged, len(parts), columns)
        progress = host.ImageProgress(len(parts), size, arrange)
        images = []
        for number, part in enumerate(parts):
            image = _decoded(vae[0], part)
            images.append(image)
            progress.add(number, _thumbnail(image, size // max(rows, columns)))
        return io.NodeOutput(images)


def _decoded(vae: host.Vae, latents: Tensor) -> Tensor:
    key = host.decoding_key(vae, latents)
    kept = None if key is None else KEPT.get(key)
    if kept is not None:
        return kept
    images = host.decode(vae, latents)
    if key is not None:
        KEPT.put(key, images, vae)
    return images


def _thumbnail(images: Tensor, side: int) -> Image.Image:
    """The first of some images (B, H, W, 3), no larger than ``side``."""
    small = Image.fromarray(to_bytes(images[0, ..., :3].movedim(-1, -3)))
    small.thumbnail((side, side))
    return small


def _arranged(count: int, columns: int, images: Mapping[int, Image.Image]) -> Image.Image:
    places = [images.get(number) for number in range(count)]
    return mosaic([places[i : i + columns] for i in range(0, count, columns)])

"""FiT Sweep Sampler: the images of a sweep, of many sizes, in packed passes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..comfyui_fitv2.solvers import SOLVERS
from ..sheets.contact_sheet import mosaic
from . import host, inputs
from .sweep import FIT_SWEEP, Sweep, SweepCell

# An adaptive solver picks step sizes from the whole batch, so a packed image would differ from one
# sampled alone.
PACKED_SOLVERS = [name for name, solver in SOLVERS.items() if not solver.adaptive]


class FiTSweepSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSweepSampler",
            display_name="FiT Sweep Sampler",
            category="FiT",
            description="Generates every image of a sweep, different sizes together in one pass "
            "without padding. Each image is the same as if it were sampled alone.",
            search_aliases=[
                "fitv2",
                "xy",
                "plot",
                "sweep",
                "sampler",
                "packed sampling",
                "many sizes",
                "batch sampler",
                "xy plot sampler",
                "grid sampler",
                "compare",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The FiT, with any LoRA, merge or guidance on it."),
                FIT_SWEEP.Input("sweep", tooltip="From FiT Resolution Sweep."),
                inputs.seed(
                    "Seed of the starting noise; every image starts as if it were sampled alone."
                ),
                inputs.steps(),
                inputs.solver(PACKED_SOLVERS),
                inputs.guidance(),
                io.Int.Input(
                    "tokens_per_pass",
                    default=16384,
                    min=1,
                    max=1 << 22,
                    tooltip="Maximum number of tokens sampled together; more needs more memory. An "
                    "image with more tokens is sampled alone.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latents",
                    is_output_list=True,
                    tooltip="One latent per image, in the order of the sweep, for VAE Decode.",
                ),
                io.String.Output(
                    "labels", is_output_list=True, tooltip="Row, column and size of each image."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: host.ModelPatcher,
        sweep: Sweep,
        seed: int,
        steps: int,
        solver: str,
        guidance: float,
        tokens_per_pass: int,
    ) -> io.NodeOutput:
        config = host.require_flow(model).metadata.config
        settings = host.SamplingSettings(seed, steps, solver, guidance)
        if found := host.forbids_packing(model):
            logging.info(
                "FiT Sweep Sampler samples its images one by one, because the model has %s, which "
                "may depend on an image as a whole.",
                ", ".join(found),
            )
            tokens_per_pass = 0
        passes = list(_passes(sweep.cells, tokens_per_pass))
        previews = host.PreviewOfAll(model, steps * len(passes), partial(_mosaic, sweep))
        latents: list[Tensor] = []
        for index, cells in enumerate(passes):
            latents += host.sample_packed(
                model,
                settings,
                host.conditioning([cell.class_id for cell in cells], config.num_classes),
                host.conditioning([config.null_class], config.num_classes),
                [cell.resolution.latent_size for cell in cells],
                [cell.extrapolation for cell in cells],
                previews.of_pass(len(latents), index * steps),
            )
        labels = [f"{cell.row} · {cell.column} · {cell.resolution}" for cell in sweep.cells]
        return io.NodeOutput([{"samples": samples} for samples in latents], labels)


def _passes(cells: Sequence[SweepCell], max_tokens: int) -> Iterator[list[SweepCell]]:
    """Cells in their order, as many per pass as ``max_tokens`` allows, and at least one."""
    together: list[SweepCell] = []
    for cell in cells:
        if together and sum(c.resolution.tokens for c in [*together, cell]) > max_tokens:
            yield together
            together = []
        together.append(cell)
    yield together


def _mosaic(sweep: Sweep, images: Mapping[int, Image.Image]) -> Image.Image:
    """The images so far, by the number of their cell, in their places."""
    places = [images.get(number) for number in range(len(sweep.cells))]
    width = len(sweep.columns)
    return mosaic([places[i : i + width] for i in range(0, len(places), width)])

"""FiT Sweep Sampler: the images of a sweep, of many sizes, in packed passes."""

from __future__ import annotations

import logging

from comfy_api.latest import io

from ..sheets.file_names import legal_name
from . import host, inputs
from .sweep import FIT_SWEEP
from .sweep_cells import PACKED_SOLVERS, Sweep
from .sweep_drawing import draw


class FiTSweepSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSweepSampler",
            display_name="FiT Sweep Sampler",
            category="FiT",
            description="Generates every image of a sweep, different sizes together in one pass "
            "without padding. Each image is the same as if it were sampled alone, and one that was "
            "drawn before is not drawn again.",
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
                    "labels",
                    is_output_list=True,
                    tooltip="Row, column and size of each image, in signs that file names may "
                    "have: for the filename_prefix of Save Image.",
                ),
                FIT_SWEEP.Output(
                    "sweep",
                    tooltip="The sweep with all settings of each image, for FiT Compare Sheet.",
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
        host.require_flow(model)
        filled = sweep.filled(seed, steps, solver, guidance)
        latents = draw(model, filled, tokens_per_pass, _say)
        labels = [legal_name(f"{c.row} · {c.column} · {c.resolution}") for c in filled.cells]
        return io.NodeOutput([{"samples": samples} for samples in latents], labels, filled)


def _say(text: str) -> None:
    logging.info("FiT Sweep Sampler: %s", text)
    host.show(text)

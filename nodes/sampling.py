"""FiT Sampler: the rectified-flow solvers of this pack, under the host's sampling."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..comfyui_fitv2.sampling import published_last_step, sampling_times
from ..comfyui_fitv2.solvers import SOLVERS
from . import host
from .solvers import DEFAULT_SOLVER, SOLVER_TOOLTIP, host_sampler


class FiTSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSampler",
            display_name="FiT Sampler",
            category="FiT",
            description="Draws latents with a FiT by evenly spaced rectified-flow steps, as the paper does.",
            search_aliases=[
                "fitv2 sampler",
                "rectified flow",
                "flow matching",
                "euler",
                "heun",
                "rk4",
                "dopri5",
                "adams bashforth",
                "ksampler",
                "ode",
                "sde",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The FiT, with any LoRA, merge or patch on it."),
                io.Conditioning.Input("positive", tooltip="Classes to draw, from FiT Class Label."),
                io.Conditioning.Input("negative", tooltip="The null class, from FiT Class Label."),
                io.Latent.Input(
                    "latent",
                    tooltip="Empty for a new picture; an encoded picture, with or without a mask, to change one.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Noise of the start; the same seed draws the same picture.",
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=1,
                    max=1000,
                    tooltip="Steps from noise to picture. Some solvers evaluate the model more than once in each.",
                ),
                io.Combo.Input(
                    "solver",
                    options=list(SOLVERS),
                    default=DEFAULT_SOLVER,
                    tooltip=SOLVER_TOOLTIP,
                ),
                io.Float.Input(
                    "guidance",
                    default=1.5,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Classifier-free guidance scale on the first three latent channels. 1 is off and twice as fast.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Part of the way that is drawn anew: 1 ignores the picture in the latent, 0.6 keeps its layout.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="The drawn latents, for any VAE Decode.")],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        positive: list[Any],
        negative: list[Any],
        latent: dict[str, Any],
        seed: int,
        steps: int,
        solver: str,
        guidance: float,
        denoise: float,
    ) -> io.NodeOutput:
        host.require_flow(model)
        samples = comfy.sample.fix_empty_latent_channels(
            model, latent["samples"], latent.get("downscale_ratio_spacial")
        )
        sampled = comfy.sample.sample_custom(
            model,
            comfy.sample.prepare_noise(samples, seed, latent.get("batch_index")),
            guidance,
            host_sampler(solver),
            1
            - sampling_times(
                steps, denoise, last_step_size=published_last_step(solver, steps, denoise)
            ),
            positive,
            negative,
            samples,
            noise_mask=latent.get("noise_mask"),
            callback=latent_preview.prepare_callback(model, steps),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
        kept = {
            key: value for key, value in latent.items() if not key.startswith("downscale_ratio")
        }
        return io.NodeOutput({**kept, "samples": sampled})

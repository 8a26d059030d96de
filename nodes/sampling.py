"""FiT Sampler: the rectified-flow solvers of this pack, under the host's sampling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor
from tqdm.auto import tqdm

from ..comfyui_fitv2.flow import velocity_from_denoised
from ..comfyui_fitv2.sampling import sampling_times
from ..comfyui_fitv2.solvers import Solver, euler, heun
from . import host

# The host hands out predicted data, from which no velocity follows at t = 1: Heun ends with a step of Euler.
SOLVERS: dict[str, Solver] = {"euler": euler, "heun": partial(heun, end_with_euler=True)}


class FiTSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSampler",
            display_name="FiT Sampler",
            category="FiT",
            description="Draws latents with a FiT by evenly spaced rectified-flow steps, as the paper does.",
            search_aliases=["fitv2 sampler", "rectified flow", "flow matching", "euler", "heun", "ksampler", "ode"],
            inputs=[
                io.Model.Input("model", tooltip="The FiT, with any LoRA, merge or patch on it."),
                io.Conditioning.Input("positive", tooltip="Classes to draw, from FiT Class Label."),
                io.Conditioning.Input("negative", tooltip="The null class, from FiT Class Label."),
                io.Latent.Input("latent", tooltip="Empty for a new picture; an encoded picture, with or without a mask, to change one."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Noise of the start; the same seed draws the same picture.",
                ),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Steps from noise to picture. heun evaluates the model twice in each."),
                io.Combo.Input(
                    "solver",
                    options=list(SOLVERS),
                    default="euler",
                    tooltip="euler: 1st order. heun: 2nd order, two evaluations a step, the last step by Euler.",
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
        host.require_fit(model)
        samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"], latent.get("downscale_ratio_spacial"))
        sampled = comfy.sample.sample_custom(
            model,
            comfy.sample.prepare_noise(samples, seed, latent.get("batch_index")),
            guidance,
            comfy.samplers.KSAMPLER(_sampler_function(SOLVERS[solver])),
            1 - sampling_times(steps, denoise),
            positive,
            negative,
            samples,
            noise_mask=latent.get("noise_mask"),
            callback=latent_preview.prepare_callback(model, steps),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=seed,
        )
        kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
        return io.NodeOutput({**kept, "samples": sampled})


def _sampler_function(solver: Solver) -> Callable[..., Tensor]:
    """One of our solvers behind the host's sampler interface: falling sigmas and a model that predicts data."""

    def sample(model: Callable[..., Tensor], x: Tensor, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, disable: bool) -> Tensor:
        per_image = x.new_ones(len(x))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return velocity_from_denoised(model(x, (1 - t) * per_image, **extra_args), x, t)

        with tqdm(total=len(sigmas) - 1, disable=disable) as progress:

            def report(step: int, x: Tensor, t: Tensor, slope: Tensor) -> None:
                progress.update()
                if callback is not None:
                    callback({"x": x, "i": step, "sigma": 1 - t, "sigma_hat": 1 - t, "denoised": x + (1 - t) * slope})

            return solver(velocity, x, 1 - sigmas, report)

    return sample

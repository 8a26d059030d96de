"""FiT Sampler: generates latents with the rectified-flow solvers of this pack."""

from __future__ import annotations

from comfy_api.latest import io

from . import host, inputs


class FiTSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSampler",
            display_name="FiT Sampler",
            category="FiT",
            description="Generates latents with a FiT in evenly spaced rectified-flow steps, as in "
            "the paper.",
            search_aliases=[
                "fitv2",
                "sampler",
                "ksampler",
                "generate",
                "rectified flow",
                "flow matching",
                "euler",
                "heun",
                "rk4",
                "dopri5",
                "adams bashforth",
                "ode",
                "sde",
                "denoise",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The FiT, with any LoRA, merge or patch on it."),
                io.Conditioning.Input(
                    "positive", tooltip="Classes to generate, from FiT Class Label."
                ),
                io.Conditioning.Input("negative", tooltip="The null class, from FiT Class Label."),
                io.Latent.Input(
                    "latent",
                    tooltip="Empty for a new image; an encoded image, with or without a mask, to "
                    "change it.",
                ),
                inputs.seed("Seed of the starting noise; the same seed gives the same image."),
                inputs.steps(),
                inputs.solver(),
                inputs.guidance(),
                inputs.denoise(),
            ],
            outputs=[io.Latent.Output(tooltip="The generated latents, for VAE Decode.")],
        )

    @classmethod
    def execute(
        cls,
        model: host.ModelPatcher,
        positive: host.Conditioning,
        negative: host.Conditioning,
        latent: io.Latent.LatentDict,
        seed: int,
        steps: int,
        solver: str,
        guidance: float,
        denoise: float,
    ) -> io.NodeOutput:
        host.require_flow(model)
        settings = host.SamplingSettings(seed, steps, solver, guidance, denoise)
        return io.NodeOutput(host.sample(model, settings, positive, negative, latent))

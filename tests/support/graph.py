"""Prompts for the server, written as graphs of nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BUNDLED = "fitv2_flags256.safetensors"
VAE = "fit_tiny_vae.safetensors"

# Settings of the samplers, unless others are given.
SEED = 7
STEPS = 4
GUIDANCE_SCALE = 2.0

Output = list[Any]
"""The id of a node and the number of one of its outputs."""


@dataclass(frozen=True)
class Node:
    id: str

    def __getitem__(self, slot: int) -> Output:
        return [self.id, slot]


class Graph:
    def __init__(self) -> None:
        self.prompt: dict[str, Any] = {}
        self._added = 0

    def add(self, class_type: str, **inputs: Any) -> Node:
        self._added += 1
        node = Node(str(self._added))
        self.prompt[node.id] = {"class_type": class_type, "inputs": inputs}
        return node

    def loader(self, checkpoint: str = BUNDLED, weight_dtype: str = "fp32") -> Node:
        return self.add("FiTLoader", checkpoint=checkpoint, weight_dtype=weight_dtype)

    def label(self, model: Output, text: str = "France") -> Node:
        return self.add("FiTClassLabel", model=model, text=text)

    def size(self, width: int = 192, height: int = 128, batch_size: int = 1) -> Node:
        return self.add(
            "FiTResolution",
            aspect_ratio="exact size",
            tokens=256,
            width=width,
            height=height,
            batch_size=batch_size,
        )

    def fit_sampler(self, model: Output, label: Node, latent: Output, **changes: Any) -> Node:
        settings = {
            "seed": SEED,
            "steps": STEPS,
            "solver": "euler",
            "guidance": GUIDANCE_SCALE,
            "denoise": 1.0,
            **changes,
        }
        return self.add(
            "FiTSampler",
            model=model,
            latent=latent,
            **{"positive": label[0], "negative": label[1], **settings},
        )

    def ksampler(self, model: Output, label: Node, latent: Output, **changes: Any) -> Node:
        settings = {
            "seed": SEED,
            "steps": STEPS,
            "sampler_name": "euler",
            "scheduler": "simple",
            "cfg": GUIDANCE_SCALE,
            "denoise": 1.0,
            **changes,
        }
        return self.add(
            "KSampler",
            model=model,
            latent_image=latent,
            **{"positive": label[0], "negative": label[1], **settings},
        )

    def extrapolation(self, model: Output, method: str = "ntk", **changes: Any) -> Node:
        settings = {"decoupled": True, "attention_scale": "none", "train_length": 0, **changes}
        return self.add("FiTExtrapolation", model=model, method=method, **settings)

    def guided(self, model: Output, **changes: Any) -> Node:
        return self.add(
            "FiTGuidance",
            model=model,
            **{"channels": "first three", "power": 0.0, "start": 0.0, "end": 1.0, **changes},
        )

    def custom(
        self, model: Output, label: Node, latent: Output, sampler: Output, sigmas: Output
    ) -> Node:
        """SamplerCustom with the seed and guidance scale of the other samplers."""
        conditioning = {"positive": label[0], "negative": label[1]}
        return self.add(
            "SamplerCustom",
            model=model,
            add_noise=True,
            noise_seed=SEED,
            cfg=GUIDANCE_SCALE,
            sampler=sampler,
            sigmas=sigmas,
            latent_image=latent,
            **conditioning,
        )

    def solver(self, solver: str, **changes: Any) -> Node:
        settings = {
            "rtol": 1e-3,
            "atol": 1e-6,
            "max_evaluations": 1000,
            "diffusion": "sigma",
            "diffusion_norm": 1.0,
            "last_step": "mean",
            **changes,
        }
        return self.add("FiTSolver", solver=solver, **settings)

    def sweep(
        self,
        model: Output,
        sizes: str,
        methods: str = "default",
        classes: str = "France",
        tokens: int = 256,
        **more: Any,
    ) -> Node:
        return self.add(
            "FiTResolutionSweep",
            model=model,
            classes=classes,
            sizes=sizes,
            tokens=tokens,
            methods=methods,
            **more,
        )

    def sweep_sampler(self, model: Output, sweep: Output, **changes: Any) -> Node:
        settings = {
            "seed": SEED,
            "steps": STEPS,
            "solver": "euler",
            "guidance": GUIDANCE_SCALE,
            "tokens_per_pass": 16384,
            **changes,
        }
        return self.add("FiTSweepSampler", model=model, sweep=sweep, **settings)

    def decoded(self, samples: Output) -> Node:
        """Images of latents, decoded with the bundled VAE."""
        return self.add("VAEDecode", samples=samples, vae=self.add("VAELoader", vae_name=VAE)[0])

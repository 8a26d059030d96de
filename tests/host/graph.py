"""Prompts for the server, written as the graphs they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

BUNDLED = "fitv2_flags42.safetensors"
VAE = "fit_tiny_vae.safetensors"

Output = list[Any]
"""A node's id and the number of one of its outputs."""


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
        return self.add("FiTResolution", aspect_ratio="exact size", tokens=256, width=width, height=height, batch_size=batch_size)

    def fit_sampler(self, model: Output, label: Node, latent: Output, **changes: Any) -> Node:
        settings = {"seed": 7, "steps": 10, "solver": "euler", "guidance": 2.0, "denoise": 1.0, **changes}
        return self.add("FiTSampler", model=model, latent=latent, **{"positive": label[0], "negative": label[1], **settings})

    def ksampler(self, model: Output, label: Node, latent: Output, **changes: Any) -> Node:
        settings = {"seed": 7, "steps": 10, "sampler_name": "euler", "scheduler": "simple", "cfg": 2.0, "denoise": 1.0, **changes}
        return self.add("KSampler", model=model, latent_image=latent, **{"positive": label[0], "negative": label[1], **settings})

    def picture(self, samples: Output) -> Node:
        """Decoded with the bundled VAE."""
        return self.add("VAEDecode", samples=samples, vae=self.add("VAELoader", vae_name=VAE)[0])

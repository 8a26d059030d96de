"""Low-rank adapters (arXiv 2106.09685) of linear layers, and ComfyUI's file of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ConfigError, LoRAConfig

_HOST_PREFIX = "diffusion_model."
DOWN, UP = "lora_A", "lora_B"


class LoRALinear(nn.Linear):
    """A linear layer plus alpha / rank · up · down, which starts at 0.

    It shares the weights of the layer that it was made of.
    """

    def __init__(self, linear: nn.Linear, config: LoRAConfig) -> None:
        super().__init__(
            linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta"
        )
        self.weight, self.bias = linear.weight, linear.bias
        factory = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.lora_A = nn.Parameter(torch.empty(config.rank, linear.in_features, **factory))
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, config.rank, **factory))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scale = config.alpha / config.rank

    def forward(self, input: Tensor) -> Tensor:
        return (
            super().forward(input)
            + F.linear(F.linear(input, self.lora_A), self.lora_B) * self.scale
        )


def add_adapters(model: nn.Module, config: LoRAConfig) -> list[str]:
    """Freeze ``model``, and give each linear layer that ``config`` targets an adapter.

    Returns the names of these layers. Raises ``ConfigError`` where there is none.
    """
    targets = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.search(config.targets, f"{name}.")
    ]
    if not targets:
        raise ConfigError(
            f"lora.targets: {config.targets!r} matches no linear layer's name. Such names are "
            "blocks.0.attn.qkv and blocks.0.mlp.fc2."
        )
    model.requires_grad_(False)
    for name in targets:
        parent, _, child = name.rpartition(".")
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        setattr(model.get_submodule(parent), child, LoRALinear(layer, config))
    return targets


def merged(state: Mapping[str, Tensor], config: LoRAConfig) -> dict[str, Tensor]:
    """A state dict without adapters: their products are added to the weights."""
    plain = {key: value for key, value in state.items() if not key.endswith((f".{DOWN}", f".{UP}"))}
    for name in adapter_names(state):
        product = state[f"{name}.{UP}"] @ state[f"{name}.{DOWN}"]
        plain[f"{name}.weight"] = plain[f"{name}.weight"] + config.alpha / config.rank * product
    return plain


def host_file(state: Mapping[str, Tensor], config: LoRAConfig) -> dict[str, Tensor]:
    """The adapters of a state dict under the keys of ComfyUI's LoRA loader."""
    tensors: dict[str, Tensor] = {}
    for name in adapter_names(state):
        tensors[f"{_HOST_PREFIX}{name}.{DOWN}.weight"] = state[f"{name}.{DOWN}"]
        tensors[f"{_HOST_PREFIX}{name}.{UP}.weight"] = state[f"{name}.{UP}"]
        tensors[f"{_HOST_PREFIX}{name}.alpha"] = torch.tensor(config.alpha)
    return tensors


def adapter_names(state: Mapping[str, Tensor]) -> list[str]:
    """The layers of a state dict that have an adapter."""
    return [key.removesuffix(f".{DOWN}") for key in state if key.endswith(f".{DOWN}")]

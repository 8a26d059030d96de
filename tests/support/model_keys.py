"""In a process with ComfyUI and the pack: which MODELs have the same key, as ``answers``."""

# pyright: reportMissingImports=false

from __future__ import annotations

import functools

import torch
from comfy.model_patcher import ModelPatcher
from fitv2.comfyui_fitv2.extrapolation import Extrapolation
from fitv2.nodes.host.model_key import model_key


class Unfollowed:
    """Something that no weak reference follows."""

    __slots__ = ("strength",)


class Hook:
    """Something of another pack."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def act(self, *args: object, **kwargs: object) -> None: ...


def patcher() -> ModelPatcher:
    device = torch.device("cpu")
    return ModelPatcher(torch.nn.Linear(2, 2), device, device)


model = patcher()
hook, other = Hook(1.0), Hook(1.0)
answers: dict[str, bool] = {}


def same(what: str, first: ModelPatcher, second: ModelPatcher) -> None:
    key = model_key(first)
    answers[what] = key is not None and key == model_key(second)


def with_option(name: str, value: object) -> ModelPatcher:
    clone = model.clone()
    clone.model_options[name] = value
    return clone


def patched(attribute: str, value: object) -> ModelPatcher:
    clone = model.clone()
    setattr(clone, attribute, value)
    return clone


same("itself", model, model)
same("a clone", model, model.clone())
same("the same hook", with_option("x", hook), with_option("x", hook))
same("the same method", with_option("x", hook.act), with_option("x", hook.act))
partials = [functools.partial(hook.act, 1, a=[2]) for _ in range(2)]
same("equal partials", *(with_option("x", partial) for partial in partials))
same("equal settings", *(with_option("x", {"a": [1, (2.0, "b")]}) for _ in range(2)))
extrapolated = model.clone()
extrapolated.model_options["transformer_options"]["fitv2_extrapolation"] = Extrapolation("ntk")
same("another extrapolation, which the cell has", model, extrapolated)

same("not: other weights", model, patcher())
lora = model.clone()
lora.add_patches({"weight": (torch.ones(2, 2),)})
same("not: a LoRA", model, lora)
quietly = lora.clone()
quietly.patches["weight"] = [(0.5, *quietly.patches["weight"][0][1:])]
same("a clone of a LoRA", lora, lora.clone())
same("not: a LoRA that was changed in place", lora, quietly)
same("not: the hook of an equal object", with_option("x", hook), with_option("x", other))
same("not: a method of an equal object", with_option("x", hook.act), with_option("x", other.act))
same("not: another number", with_option("x", 1), with_option("x", True))
same("not: an object patch", model, patched("object_patches", {"model_sampling": hook}))
same("not: a wrapper", model, patched("wrappers", {"apply_model": {"k": [hook]}}))
same("not: something new in a later ComfyUI", model, patched("steering", 3))
same("not: what cannot be followed", *(with_option("x", u) for u in [Unfollowed()] * 2))
loop: list = []
loop.append(loop)
same("not: what holds itself", *(with_option("x", loop) for _ in range(2)))

seen = set()
for strength in range(20):  # each at the place in memory of the one before
    short_lived = with_option("x", Hook(strength))
    seen.add(model_key(short_lived))
    del short_lived
answers["every later object is another"] = len(seen) == 20

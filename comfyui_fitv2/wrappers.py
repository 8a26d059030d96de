"""The weights of a model among what other trainers save around them.

Trainers wrap a state dict in other dicts ("state_dict", "model"), put prefixes before its keys
("module.", "_orig_mod."), and keep a moving average beside it: as a second state dict, under a
prefix, or as a list of tensors. None of these names is needed here: a set of weights is found by
two keys that every FiT has, whatever stands before them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .checkpoint_error import CheckpointError
from .metadata import METADATA_TENSOR

_ANCHORS = ("x_embedder.proj.weight", "blocks.0.attn.qkv.weight")
"""Keys that tell a FiT, and its relatives DiT and SiT; one is enough."""
# What FSDP, torch.compile and activation checkpointing put before the name of any module.
_MODULE_WRAPPERS = re.compile(
    r"(?:_fsdp_wrapped_module|_orig_mod|_checkpoint_wrapped_module|_forward_module)\."
)
_AVERAGE = re.compile(r"(?:^|[._])(?:ph)?ema|averaged?(?:[._]|$)|shadow|(?:^|[._])swa(?:[._]|$)")
_AVERAGE_COUNT = "n_averaged"
"""Key of ``torch.optim.swa_utils.AveragedModel`` beside its weights."""
_OPTIMIZER_STATE = re.compile(r"(?:^|[./])(?:exp_avg|exp_avg_sq|momentum_buffer)(?:[./]|$)")
_LORA = re.compile(r"\.(?:lora_(?:A|B|up|down)|hada_w|lokr_w|dora_scale)|^lora_unet_|^lycoris_")
_DEEPEST = 8
"""Levels of dicts within dicts that are searched."""


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A state dict from among the content of a file."""

    tensors: dict[str, Tensor]
    """Under the keys of the model, with the tensor of our metadata if there is one."""
    note: str | None = None
    """What was chosen, where the file holds more than one set of weights."""


@dataclass(frozen=True, slots=True)
class _Level:
    """A dict of the file's, and where it is: keys joined by dots, with one at the end."""

    place: str
    tensors: dict[str, Tensor]
    lists: dict[str, list[Tensor]]


def unwrap(path: Path, content: object) -> Unwrapped:
    """The weights in the content of a file: the moving average, where it has one.

    Where no FiT is found, all tensors are returned as they are. Raises ``CheckpointError`` where
    there are none, and for an optimizer's state or a LoRA.
    """
    levels = list(_levels(content))
    found: dict[str, dict[str, Tensor]] = {}
    for level in levels:
        found.update(_sets_of_weights(level))
    if not found:
        return Unwrapped(_without_fit(path, content, levels))
    notes = []
    lists = ((f"{x.place}{key}", values) for x in levels for key, values in x.lists.items())
    for name, values in lists:
        if not _AVERAGE.search(name):
            continue
        named = next((m for w in found.values() if (m := _named(values, w)) is not None), None)
        if named is not None:
            found[name] = named
        else:
            notes.append(f"its average {name} fits none of its weights and was left out")
    averages = [name for name in found if _AVERAGE.search(name)]
    # An average object may hold the weights as well: the innermost name decides.
    averages.sort(key=lambda name: not _AVERAGE.search(name.rstrip(".").rpartition(".")[2]))
    chosen = (averages or list(found))[0]
    if len(found) > 1:
        names = ", ".join(name.rstrip(".") or "the outer level" for name in found)
        kind = "moving average" if averages else "first one"
        notes.insert(0, f"holds several sets of weights ({names}); used the {kind}, {chosen!r}")
    tensors = found[chosen]
    embedded = (
        tensor
        for level in levels
        for key, tensor in level.tensors.items()
        if key.endswith(METADATA_TENSOR)
    )
    if (metadata := next(embedded, None)) is not None:
        tensors[METADATA_TENSOR] = metadata
    return Unwrapped(tensors, "; ".join(notes) or None)


def _levels(content: object) -> Iterator[_Level]:
    """All dicts within ``content``, from the outside."""
    seen: set[int] = set()
    waiting: list[tuple[str, int, object]] = [("", 0, content)]
    while waiting:
        place, depth, value = waiting.pop(0)
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        tensors: dict[str, Tensor] = {}
        lists: dict[str, list[Tensor]] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                continue
            if isinstance(item, Tensor):
                tensors[_MODULE_WRAPPERS.sub("", key)] = item
            elif isinstance(item, (list, tuple)) and item:
                if all(isinstance(x, Tensor) for x in item):
                    lists[key] = list(item)
            elif depth < _DEEPEST:
                waiting.append((f"{place}{key}.", depth + 1, item))
        yield _Level(place, tensors, lists)


def _sets_of_weights(level: _Level) -> dict[str, dict[str, Tensor]]:
    """The state dicts of one level by the prefix of their keys, which is left out in them."""
    tensors = level.tensors
    prefixes = {
        key.removesuffix(anchor): None
        for key in tensors
        for anchor in _ANCHORS
        if key == anchor or key.endswith(f".{anchor}")
    }
    sets: dict[str, dict[str, Tensor]] = {}
    for prefix in prefixes:
        others = tuple(p for p in prefixes if p != prefix and p.startswith(prefix))
        name = f"{level.place}{prefix}"
        if _AVERAGE_COUNT in tensors:
            name = f"{level.place}averaged.{prefix}"
        sets[name] = {
            key.removeprefix(prefix): value
            for key, value in tensors.items()
            if key.startswith(prefix)
            and not (others and key.startswith(others))
            and key != _AVERAGE_COUNT
            and not key.endswith(METADATA_TENSOR)
        }
    for plain in list(sets.values()):
        sets.update(_without_dots(level, plain))
    return sets


def _without_dots(level: _Level, plain: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The averages of ``plain`` whose keys have lost their dots, as latent-diffusion's have."""
    keys = {key.replace(".", ""): key for key in plain}
    anchor = _ANCHORS[0].replace(".", "")
    sets = {}
    for prefix in (k.removesuffix(anchor) for k in level.tensors if k.endswith(anchor)):
        short = {k.removeprefix(prefix): v for k, v in level.tensors.items()}
        sets[f"{level.place}{prefix}"] = {keys[k]: v for k, v in short.items() if k in keys}
    return sets


def _named(values: list[Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A list of tensors under the names of ``weights`` in their order; None if they do not fit."""
    if [value.shape for value in values] != [weight.shape for weight in weights.values()]:
        return None
    return dict(zip(weights, values, strict=True))


def _without_fit(path: Path, content: object, levels: list[_Level]) -> dict[str, Tensor]:
    """All tensors of a file without the weights of a FiT."""
    tensors = {f"{x.place}{key}": value for x in levels for key, value in x.tensors.items()}
    if _is_optimizer(content, tensors):
        raise CheckpointError(
            path,
            "the state of an optimizer, without the weights of a model. Name the file of the "
            "weights, which is usually in the same folder.",
        )
    if any(_LORA.search(key) for key in tensors):
        raise CheckpointError(
            path,
            "a LoRA, which changes a model and is none itself. Load the model that it was made "
            "for, and the LoRA on top of it, in ComfyUI with Load LoRA.",
        )
    if tensors:
        return tensors
    if any(level.lists for level in levels):
        raise CheckpointError(
            path,
            "lists of tensors without names, such as a moving average alone. Name the checkpoint "
            "that has the model's state dict as well.",
        )
    raise CheckpointError(
        path,
        f"a torch pickle of {type(content).__name__} without weights. Expected a state dict.",
    )


def _is_optimizer(content: Any, tensors: Mapping[str, Tensor]) -> bool:
    if isinstance(content, Mapping) and "param_groups" in content and "state" in content:
        return True
    return any(_OPTIMIZER_STATE.search(key) for key in tensors)

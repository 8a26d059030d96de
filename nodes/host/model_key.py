"""What tells two MODELs apart by all that decides their images.

Weights and hooks are told apart by the objects that hold them. A number that is never given twice
stands for each, for as long as the object lives: its key neither keeps it alive, nor is that of a
later object at the same place in memory.
"""

from __future__ import annotations

import enum
import functools
import itertools
import types
import uuid
import weakref
from collections.abc import Hashable
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher

from ...comfyui_fitv2.extrapolation import Extrapolation
from ...comfyui_fitv2.guidance import Guidance
from .network import EXTRAPOLATION

_BOOKKEEPING = {
    "_free_methods",
    "_last_free_log_time",
    "_last_prepare_log_key",
    "backup",
    "backup_buffers",
    "cached_hook_patches",
    "cached_patcher_init",
    "clone_base_uuid",
    "hook_backup",
    "hook_patches_backup",
    "is_injected",
    "is_multigpu_base_clone",
    "model",
    "non_dynamic_delegate_model",
    "object_patches_backup",
    "offload_device",
    "parent",
    "pinned",
    "size",
    "skip_injection",
}
"""Attributes of a ModelPatcher that decide no image. Any other one counts, also a new one."""

_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    enum.Enum,
    uuid.UUID,
    torch.dtype,
    torch.device,
)
_BY_VALUE = (Extrapolation, Guidance)


class UnkeyedError(Exception):
    """Something on a MODEL cannot be told apart from something else."""


def model_key(model: ModelPatcher, weights: Hashable = None) -> Hashable | None:
    """A key of all that decides the images of a MODEL but its extrapolation; None where none is.

    ``weights`` is a key of the unpatched weights where their object is a new one each time.
    """
    numbers = _Numbers.of_all
    options: dict[str, Any] = dict(model.model_options)
    transformer_options = dict(options.get("transformer_options", {}))
    transformer_options.pop(EXTRAPOLATION, None)
    options["transformer_options"] = transformer_options
    state = {**vars(model), "model_options": options}
    try:
        return (
            numbers.of(model.model) if weights is None else weights,
            type(model),
            *(
                (name, _key(value, numbers))
                for name, value in sorted(state.items())
                if name not in _BOOKKEEPING
            ),
        )
    except UnkeyedError:
        return None


def number_of(thing: Any) -> int | None:
    """The number of an object, as long as it lives; None where that cannot be told."""
    try:
        return _Numbers.of_all.of(thing)
    except UnkeyedError:
        return None


class _Numbers:
    """A number for every living object."""

    of_all: _Numbers

    def __init__(self) -> None:
        self._next = itertools.count()
        self._given: dict[int, tuple[weakref.ref[Any], int]] = {}

    def of(self, thing: Any) -> int:
        """Raises ``UnkeyedError`` for an object that does not tell when it is gone."""
        known = self._given.get(id(thing))
        if known is not None and known[0]() is thing:
            return known[1]
        place, number = id(thing), next(self._next)

        def forget(reference: weakref.ref[Any]) -> None:
            if self._given.get(place, (None,))[0] is reference:
                del self._given[place]

        try:
            self._given[place] = weakref.ref(thing, forget), number
        except TypeError:
            raise UnkeyedError from None
        return number


_Numbers.of_all = _Numbers()


def _key(value: Any, numbers: _Numbers, depth: int = 0) -> Hashable:
    """A key of a value: of its content where that is plain, else of the object."""
    if depth > 20:  # something that holds itself
        raise UnkeyedError

    def key(inner: Any) -> Hashable:
        return _key(inner, numbers, depth + 1)

    if isinstance(value, _PLAIN):
        return type(value), value  # 1, 1.0 and True are equal
    if isinstance(value, _BY_VALUE):
        return value
    if type(value) is dict:
        return "dict", frozenset((key(name), key(inner)) for name, inner in value.items())
    if type(value) in (list, tuple):
        return type(value), tuple(map(key, value))
    if type(value) in (set, frozenset):
        return "set", frozenset(map(key, value))
    if type(value) is functools.partial:
        return "partial", key(value.func), key(value.args), key(value.keywords)
    if isinstance(value, types.MethodType):  # a new object each time that it is looked up
        return "method", key(value.__func__), key(value.__self__)
    return "object", numbers.of(value)

"""Read a scaling study from its YAML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..train.config import ConfigError
from ..train.config_parser import CONFIGS, read_yaml
from .config import Comparison, Distances, Drawings, HeldOutSet, ScalingConfig, Size, Variant

T = TypeVar("T")

SCALING_CONFIGS = CONFIGS / "scaling"


def read_scaling_config(name: str) -> ScalingConfig:
    """Read a YAML file, or the one called ``name`` in ``training/configs/scaling``.

    Raises ``ConfigError``, which names the file and the key.
    """
    named = SCALING_CONFIGS / f"{name}.yaml"
    path = named if named.is_file() else Path(name)
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in SCALING_CONFIGS.glob("*.yaml")))
        raise ConfigError(f"--config {name}: no such file, and no study called so: {names}.")
    values = dict(read_yaml(path))
    try:
        for key, kind in (("sizes", Size), ("variants", Variant), ("held_out", HeldOutSet)):
            inner = _with_keys(dict, values.get(key, {}), key)
            values[key] = {n: _with_keys(kind, v, f"{key}.{n}") for n, v in inner.items()}
        for key, kind in (("drawings", Drawings), ("distances", Distances)):
            if key in values:
                values[key] = _with_keys(kind, values[key], key)
        values["compared"] = [
            _with_keys(Comparison, comparison, "compared")
            for comparison in values.get("compared", [])
        ]
        return _with_keys(ScalingConfig, values, "the study")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _with_keys(kind: Callable[..., T], content: Any, where: str) -> T:
    """``kind`` with the keys and values of ``content`` as arguments. Raises ``ConfigError``."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {content!r}.")
    try:
        return kind(**content)
    except TypeError as error:  # it names the unknown or missing key
        raise ConfigError(f"{where}: {str(error).rpartition('__init__() ')[2]}.") from None

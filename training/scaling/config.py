"""What a scaling study trains: sizes, families, and the configuration that all its runs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..train.config import ConfigError, TrainingConfig
from ..train.config_parser import CONFIGS, config_from_dict

T = TypeVar("T")

SCALING_CONFIGS = CONFIGS / "scaling"
FITV2, FIT_ARCHITECTURE, FIT = "FiTv2", "FiT architecture", "FiT"
FAMILIES = (FITV2, FIT_ARCHITECTURE, FIT)
_FIT_DEPTH = 28 / 36
"""FiT-XL has 28 layers of FiTv2-XL's width, for as many GFLOPs as its 36."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a FiTv2. A FiT of that size has the same width and about as many FLOPs."""

    hidden_size: int
    """Width of a token."""
    num_heads: int
    """Number of attention heads."""
    depth: int
    """Number of layers of FiTv2."""
    steps: int
    """Number of training steps: more for a smaller size, so that all use comparable compute."""

    def __post_init__(self) -> None:
        _require_counts(asdict(self))


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """The images of shapes that are used where no data are given."""

    training: int
    """Number of images to train on."""
    held_out: int
    """Number of images to measure on."""
    image_size: int
    """S in pixels: an image has at most S² pixels."""

    def __post_init__(self) -> None:
        _require_counts(asdict(self))


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """A study. Raises ``ConfigError`` for values that do not fit together."""

    sizes: dict[str, Size]
    """Sizes by name, the cheapest first."""
    families: dict[str, list[str]]
    """Names of the sizes to train, for each of FAMILIES."""
    measured_at: list[int]
    """Steps at which the loss of a run is measured, in addition to its last."""
    shapes: ShapesConfig
    """The images that are used where no data are given."""
    held_out_times: int = 8
    """Number of times t at which each held-out image is measured."""
    training: dict[str, Any] = field(default_factory=dict)
    """The part of the training configuration that all runs share."""

    def __post_init__(self) -> None:
        for family, sizes in self.families.items():
            if family not in FAMILIES:
                raise ConfigError(
                    f"families: unknown family {family!r}. Choose from {', '.join(FAMILIES)}."
                )
            if unknown := [size for size in sizes if size not in self.sizes]:
                raise ConfigError(
                    f"families: {family} names the size {unknown[0]!r}; "
                    f"sizes has {', '.join(self.sizes)}."
                )
        _require_counts({"held_out_times": self.held_out_times})
        first = min(self.measured_at, default=0)
        rising = self.measured_at and sorted(set(self.measured_at)) == self.measured_at
        if not rising or any(size.steps <= first for size in self.sizes.values()):
            raise ConfigError(
                "measured_at must be rising numbers, the first below the steps of every size, "
                f"not {self.measured_at}."
            )

    @property
    def ladder(self) -> list[tuple[str, str]]:
        """(family, size) of every run, size after size."""
        return [
            (family, size)
            for size in self.sizes
            for family in FAMILIES
            if size in self.families.get(family, [])
        ]

    def run(self, family: str, size: str, data: Path, output: Path) -> TrainingConfig:
        """The training configuration of one run. Raises ``ConfigError``."""
        steps = self.sizes[size].steps
        milestones = [*(step for step in self.measured_at if step < steps), steps]
        values = {
            **self.training,
            "model": _architecture(family, self.sizes[size]),
            "data": str(data),
            "output": str(output),
            "steps": steps,
            "resume": "latest",
            "checkpoints": {"every": 0, "keep": 1, "milestones": milestones},
        }
        return config_from_dict(values, f"training of {family} {size}")


def _architecture(family: str, size: Size) -> dict[str, Any]:
    width = {"hidden_size": size.hidden_size, "num_heads": size.num_heads}
    if family == FITV2:
        return {**width, "depth": size.depth, "adaln_lora_dim": size.hidden_size // 4}
    version_1 = {
        **width,
        "depth": round(size.depth * _FIT_DEPTH),
        "adaln_lora_dim": 0,
        "mlp_ratio": 6.0,
        "qk_norm": False,
    }
    return {**version_1, "prediction": "epsilon" if family == FIT else "velocity"}


def read_scaling_config(name: str) -> ScalingConfig:
    """Read a YAML file, or the one called ``name`` in ``training/configs/scaling``.

    Raises ``ConfigError``, which names the file and the key.
    """
    named = SCALING_CONFIGS / f"{name}.yaml"
    path = named if named.is_file() else Path(name)
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in SCALING_CONFIGS.glob("*.yaml")))
        raise ConfigError(f"--config {name}: no such file, and no study called so: {names}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        values = _with_keys(dict, content, "the study")
        for name, size in values.get("sizes", {}).items():
            values["sizes"][name] = _with_keys(Size, size, f"sizes.{name}")
        if "shapes" in values:
            values["shapes"] = _with_keys(ShapesConfig, values["shapes"], "shapes")
        return _with_keys(ScalingConfig, values, "the study")
    except (yaml.YAMLError, ConfigError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None


def _with_keys(kind: Callable[..., T], content: Any, where: str) -> T:
    """``kind`` with the keys and values of ``content`` as arguments. Raises ``ConfigError``."""
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {content!r}.")
    try:
        return kind(**content)
    except TypeError as error:  # it names the unknown or missing key
        raise ConfigError(f"{where}: {str(error).rpartition('__init__() ')[2]}.") from None


def _require_counts(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ConfigError(f"{name} must be a whole number of 1 or more, not {value!r}.")

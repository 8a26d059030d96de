"""What a scaling study trains: sizes, families, and the configuration that all its runs share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from ..train.config import ConfigError, TrainingConfig
from ..train.config_parser import CONFIGS, config_from_dict

SCALING_CONFIGS = CONFIGS / "scaling"
FITV2, FIT_ARCHITECTURE, FIT = "FiTv2", "FiT architecture", "FiT"
FAMILIES = (FITV2, FIT_ARCHITECTURE, FIT)
_FIT_DEPTH = 28 / 36
"""FiT-XL has 28 layers of FiTv2-XL's width, for as many GFLOPs as its 36."""
_NEVER = 10**9


@dataclass(frozen=True, kw_only=True)
class Size:
    """A FiTv2; a FiT of that size has as much width and about as many FLOPs."""

    hidden_size: int
    """Width of a token."""
    num_heads: int
    """Attention heads."""
    depth: int
    """Layers of FiTv2."""
    steps: int
    """Steps that it is trained; for models of all sizes to spend about as much compute, more of them the smaller it is."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures that are drawn where no data are given."""

    training: int
    """To train on."""
    held_out: int
    """To measure on."""
    resolution: int
    """At most its square in pixels each."""


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """The ladder."""

    sizes: dict[str, Size]
    """By name, smallest first."""
    families: dict[str, list[str]]
    """Names of sizes that are trained of each of FAMILIES."""
    measured_at: list[int]
    """Steps at which runs are measured, beside their end."""
    pictures: Pictures
    """Drawn where no data are given."""
    held_out_times: int = 8
    """Times at which each held-out picture is measured."""
    training: dict[str, Any] = field(default_factory=dict)
    """Keys of a training configuration that all runs share."""

    def __post_init__(self) -> None:
        for family, sizes in self.families.items():
            if family not in FAMILIES:
                raise ConfigError(
                    f"families: there is none called {family!r}. There are: {', '.join(FAMILIES)}."
                )
            if unknown := [size for size in sizes if size not in self.sizes]:
                raise ConfigError(
                    f"families: {family} names the size {unknown[0]!r}; sizes has {', '.join(self.sizes)}."
                )
        if sorted(set(self.measured_at)) != self.measured_at or any(
            size.steps <= min(self.measured_at, default=size.steps) for size in self.sizes.values()
        ):
            raise ConfigError(
                f"measured_at must be rising numbers that begin before the steps of every size, not {self.measured_at}."
            )
        if self.held_out_times < 1:
            raise ConfigError(f"held_out_times must be 1 or more, not {self.held_out_times}.")

    @property
    def ladder(self) -> list[tuple[str, str]]:
        """(family, size) of every run, the cheapest first."""
        return [
            (family, size)
            for size in self.sizes
            for family in FAMILIES
            if size in self.families.get(family, [])
        ]

    def run(self, family: str, size: str, data: Path, output: Path) -> TrainingConfig:
        """The configuration of one run. Raises ``ConfigError``."""
        steps = self.sizes[size].steps
        values = {
            **self.training,
            "model": _architecture(family, self.sizes[size]),
            "data": str(data),
            "output": str(output),
            "steps": steps,
            "resume": "latest",
            "checkpoints": {
                "every": _NEVER,
                "keep": 1,
                "milestones": [*(at for at in self.measured_at if at < steps), steps],
            },
        }
        return config_from_dict(values)


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
    """Of a name in ``training/configs/scaling`` or a YAML file. Raises ``ConfigError``."""
    named = SCALING_CONFIGS / f"{name}.yaml"
    path = named if named.is_file() else Path(name)
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in SCALING_CONFIGS.glob("*.yaml")))
        raise ConfigError(
            f"--config {name}: neither a file nor a study of ours. There are: {names}."
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(ScalingConfig)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(content, Mapping):
            raise ConfigError(f"{path}: holds {type(content).__name__}, not keys and values.")
        return ScalingConfig(**vars(parser.instantiate(parser.parse_object(dict(content)))))
    except (yaml.YAMLError, ArgumentError, TypeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None

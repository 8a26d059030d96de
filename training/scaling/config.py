"""What a scaling study trains, measures and compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from comfyui_fitv2.resolution import TOKEN_PIXELS, Resolution, parse_size

from ..train.config import ConfigError, TrainingConfig
from ..train.config_parser import config_from_dict
from .drawn_shapes import Ratios

FITV2, FIT_ARCHITECTURE, FIT = "FiTv2", "FiT architecture", "FiT"
ARCHITECTURES = (FITV2, FIT_ARCHITECTURE, FIT)
CONVERGENCE, ABLATION, SHAPES = "convergence", "ablation", "shapes"
PARTS = (CONVERGENCE, ABLATION, SHAPES)
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
class Variant:
    """A way of training, at one or more sizes."""

    sizes: list[str]
    """Names of the sizes to train, in this order."""
    architecture: str = FITV2
    """One of ARCHITECTURES: FiTv2; FiT architecture, the layers of version 1 with the rectified
    flow; FiT, version 1 as published, which learns the noise of a DDPM."""
    training: dict[str, Any] = field(default_factory=dict)
    """What differs in the training configuration; ``steps`` are those of the size by default."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two variants that differ by one change."""

    part: str
    """One of PARTS, the section of the page that it belongs to."""
    change: str
    """What ``after`` has and ``before`` does not, such as QK-norm."""
    before: str
    """Name of a variant."""
    after: str
    """Name of a variant."""
    sizes: list[str] = field(default_factory=list)
    """Names of the sizes at which they are compared; by default all that both have."""


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """The drawings to train on."""

    count: int
    """Number of drawings."""
    side: int
    """A drawing has about as many pixels as a square of this side; at least 1.42 times
    ``image_size``, so that every drawing has a square crop."""
    image_size: int
    """S in pixels: an image to train on has at most S² pixels, a crop is S × S."""

    def __post_init__(self) -> None:
        _require_counts(asdict(self))


@dataclass(frozen=True, kw_only=True)
class HeldOutSet:
    """Drawings that nothing is trained on."""

    count: int
    """Number of drawings whose loss is measured."""
    image_size: int
    """S in pixels, which may exceed that of the training."""
    least: float = 1.0
    """Least ratio of the longer side to the shorter one."""
    most: float = 2.0
    """Greatest such ratio."""
    sample: str = ""
    """Size of the images that are generated and compared with these drawings, such as 1:1, 3:2 or
    192x192; a ratio has at most S² pixels. Empty: none are."""

    def __post_init__(self) -> None:
        _require_counts({"count": self.count, "image_size": self.image_size})
        try:
            _ = self.ratios
            if self.sample:
                _ = self.sample_size
        except ValueError as error:
            raise ConfigError(f"held_out: {error}") from None

    @property
    def ratios(self) -> Ratios:
        return Ratios(least=self.least, most=self.most)

    @property
    def sample_size(self) -> Resolution:
        """``sample`` as a size. Raises ``ValueError`` where there is none."""
        return parse_size(self.sample, (self.image_size // TOKEN_PIXELS) ** 2)


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How images are generated whose features are compared with those of held-out drawings."""

    per_class: int
    """Number of images of each class and size."""
    steps: int
    """Steps of Euler's method, or of DDIM for a model that predicts noise."""
    measured_at: list[int] = field(default_factory=list)
    """Those of the study's ``measured_at`` at which the first size is measured too."""
    guidance: float = 2.0
    """Strength of classifier-free guidance; 1 is off."""
    references: int = 300
    """Number of held-out drawings to compare with."""
    classifier: int = 3000
    """Number of other drawings that the classifier is trained on, whose features are compared."""

    def __post_init__(self) -> None:
        names = ("per_class", "steps", "references", "classifier")
        _require_counts({name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training of the study."""

    variant: str
    size: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant} {self.size} seed {self.seed}"

    @property
    def folder_name(self) -> str:
        return self.name.replace(" ", "-")


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """A study. Raises ``ConfigError`` for values that do not fit together."""

    seeds: list[int]
    """Every variant is trained at every size of it with each of these seeds."""
    sizes: dict[str, Size]
    """Sizes by name, the cheapest first."""
    variants: dict[str, Variant]
    """Ways of training by name. Those of one with several sizes are compared with each other."""
    compared: list[Comparison] = field(default_factory=list)
    """Pairs of variants."""
    measured_at: list[int]
    """Steps at which the loss of a run is measured, in addition to its last."""
    drawings: Drawings
    """The drawings that are used where no data are given."""
    held_out: dict[str, HeldOutSet]
    """What losses and distances are measured on; the first is that of the curves."""
    held_out_times: int = 8
    """Number of times t at which each held-out image is measured."""
    distances: Distances | None = None
    """Whether images are generated and measured too."""
    training: dict[str, Any] = field(default_factory=dict)
    """The part of the training configuration that all runs share."""
    remarks: list[str] = field(default_factory=list)
    """Sentences for the end of the page, such as how the learning rate was chosen."""

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds must be different whole numbers, not {self.seeds}.")
        if not self.held_out:
            raise ConfigError("held_out must have one set of drawings or more.")
        for name, variant in self.variants.items():
            _require_known(f"variants.{name}: architecture", variant.architecture, ARCHITECTURES)
            for size in variant.sizes:
                _require_known(f"variants.{name}: size", size, self.sizes)
        for comparison in self.compared:
            _require_known("compared: part", comparison.part, PARTS)
            for variant in (comparison.before, comparison.after):
                _require_known("compared: variant", variant, self.variants)
                for size in comparison.sizes:
                    _require_known("compared: size", size, self.variants[variant].sizes)
        _require_counts({"held_out_times": self.held_out_times})
        first = min(self.measured_at, default=0)
        rising = self.measured_at and sorted(set(self.measured_at)) == self.measured_at
        if not rising or any(size.steps <= first for size in self.sizes.values()):
            raise ConfigError(
                "measured_at must be rising numbers, the first below the steps of every size, "
                f"not {self.measured_at}."
            )
        distances_at = self.distances.measured_at if self.distances else []
        if unknown := sorted(set(distances_at) - set(self.measured_at)):
            raise ConfigError(f"distances.measured_at: {unknown[0]} is not in measured_at.")

    @property
    def runs(self) -> list[Run]:
        """All runs: first the models of the first comparison, then the variants in their order.

        Every model is trained with all seeds before the next one.
        """
        first = [
            (name, size)
            for comparison in self.compared[:1]
            for size in self.variants[comparison.before].sizes
            for name in (comparison.after, comparison.before)
            if size in self.variants[name].sizes
        ]
        rest = [(name, size) for name, variant in self.variants.items() for size in variant.sizes]
        return [
            Run(variant=name, size=size, seed=seed)
            for name, size in dict.fromkeys([*first, *rest])
            for seed in self.seeds
        ]

    def training_of(self, run: Run, data: Path, output: Path) -> TrainingConfig:
        """The training configuration of a run. Raises ``ConfigError``."""
        size, variant = self.sizes[run.size], self.variants[run.variant]
        steps: int = variant.training.get("steps", size.steps)
        milestones = [*(step for step in self.measured_at if step < steps), steps]
        values = {
            "model": _architecture(variant.architecture, size),
            "data": str(data),
            "output": str(output),
            "steps": steps,
            "seed": run.seed,
            "resume": "latest",
            "checkpoints": {"every": 0, "keep": 1, "milestones": milestones},
        }
        merged = _merged(_merged(self.training, values), variant.training)
        return config_from_dict(merged, f"training of {run.name}")


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, also within dictionaries; ``other`` wins."""
    result = dict(one)
    for key, value in other.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            result[key] = _merged(before, value)
        else:
            result[key] = value
    return result


def _architecture(name: str, size: Size) -> dict[str, Any]:
    width = {"hidden_size": size.hidden_size, "num_heads": size.num_heads}
    if name == FITV2:
        return {**width, "depth": size.depth, "adaln_lora_dim": size.hidden_size // 4}
    version_1 = {
        **width,
        "depth": round(size.depth * _FIT_DEPTH),
        "adaln_lora_dim": 0,
        "mlp_ratio": 6.0,
        "qk_norm": False,
    }
    return {**version_1, "prediction": "epsilon" if name == FIT else "velocity"}


def _require_known(what: str, value: str, known: Any) -> None:
    if value not in known:
        raise ConfigError(f"{what} {value!r} is unknown. Choose from {', '.join(known)}.")


def _require_counts(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise ConfigError(f"{name} must be a whole number of 1 or more, not {value!r}.")

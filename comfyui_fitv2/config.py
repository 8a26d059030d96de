"""What a FiTv2 model is made of, and how a checkpoint says so.

``FiTConfig`` holds everything that the weights alone do not tell (head count, RoPE) beside what they do; the
presets are the published sizes. ``Metadata`` is the JSON that our safetensors files carry under ``fitv2``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from .extrapolation import Extrapolation

METADATA_KEY = "fitv2"
PREDICTIONS = ("velocity", "epsilon")
DDPM_TIMESTEPS = 1000
"""Steps of the noise schedule of models that predict "epsilon"."""


@dataclass(frozen=True, slots=True)
class FiTConfig:
    """Architecture of one FiTv2 (arXiv 2410.13925, section 3), or of a FiT of version 1 (arXiv 2402.12376) by ``qk_norm``,
    ``adaln_lora_dim``, ``mlp_ratio`` and ``prediction``. Raises ``ValueError`` on values that do not fit together."""

    hidden_size: int
    """Width of a token."""
    depth: int
    """Number of transformer blocks."""
    num_heads: int
    """Attention heads; ``hidden_size / num_heads`` must be a multiple of 4 (two axes, rotated in pairs)."""
    num_classes: int
    """Classes without the null class, whose id is ``num_classes``."""
    adaln_lora_dim: int
    """Rank of each block's own part of the AdaLN modulation; 0 gives each block a whole modulation and no shared one (version 1)."""
    patch_size: int = 2
    """Latent pixels a token covers on each side."""
    in_channels: int = 4
    """Latent channels."""
    mlp_ratio: float = 4.0
    """SwiGLU's hidden width is ⅔ of this times ``hidden_size``."""
    rope_base: float = 10000.0
    """Base of the rotary frequencies."""
    train_length: int = 16
    """Tokens on a side of the square that the model was trained on: 16 is 256 tokens, or 256 pixels with an f8 VAE."""
    extrapolation: str = "none"
    """RoPE method that the weights were trained with, applied where a call asks for none."""
    decoupled: bool = True
    """Whether that method scales height and width apart."""
    qk_norm: bool = True
    """Whether queries and keys are normalised; version 1 does not."""
    prediction: str = "velocity"
    """What the output is: "velocity" of the rectified flow, or "epsilon", the noise of a DDPM with linear betas (version 1)."""

    def __post_init__(self) -> None:
        for name in (
            "hidden_size",
            "depth",
            "num_heads",
            "num_classes",
            "adaln_lora_dim",
            "patch_size",
            "in_channels",
            "train_length",
        ):
            value, least = getattr(self, name), int(name != "adaln_lora_dim")
            if not isinstance(value, int) or value < least:
                raise ValueError(
                    f"FiTConfig.{name} must be a whole number of {least} or more, not {value!r}."
                )
        if self.prediction not in PREDICTIONS:
            raise ValueError(
                f"FiTConfig.prediction must be one of {', '.join(PREDICTIONS)}, not {self.prediction!r}."
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}."
            )
        if self.head_dim % 4:
            raise ValueError(
                f"hidden_size {self.hidden_size} over num_heads {self.num_heads} is a head of {self.head_dim}; 2-D RoPE needs a multiple of 4."
            )
        _ = self.default_extrapolation  # raises on an unknown method

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def mlp_hidden_size(self) -> int:
        return int(self.hidden_size * self.mlp_ratio * 2 / 3)

    @property
    def null_class(self) -> int:
        """Id of the null class: the last row of the label table."""
        return self.num_classes

    @property
    def train_tokens(self) -> int:
        return self.train_length**2

    @property
    def default_extrapolation(self) -> Extrapolation:
        return Extrapolation(
            method=self.extrapolation, decoupled=self.decoupled, train_length=self.train_length
        )

    @classmethod
    def preset(cls, name: str) -> FiTConfig:
        """A published size by name. Raises ``ValueError`` naming the presets."""
        try:
            return PRESETS[name]
        except KeyError:
            raise ValueError(
                f"No preset is called {name!r}. There are: {', '.join(PRESETS)}."
            ) from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FiTConfig:
        """Raises ``ValueError`` on unknown or missing fields, so that a newer file is never read half."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"unknown configuration fields {', '.join(unknown)}; a newer version of this pack may have written them"
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"incomplete configuration: {error}") from None


_XL = FiTConfig(hidden_size=1152, depth=36, num_heads=16, num_classes=1000, adaln_lora_dim=288)
_3B = FiTConfig(hidden_size=2304, depth=40, num_heads=24, num_classes=1000, adaln_lora_dim=576)

PRESETS: dict[str, FiTConfig] = {
    "fitv2-b": FiTConfig(
        hidden_size=768, depth=15, num_heads=12, num_classes=1000, adaln_lora_dim=192
    ),
    "fitv2-xl": _XL,
    "fitv2-3b": _3B,
    # The high-resolution post-training: same shapes, but NTK rotary frequencies during training.
    "fitv2-xl-hr": replace(_XL, extrapolation="ntk"),
    "fitv2-3b-hr": replace(_3B, extrapolation="ntk"),
    # Version 1. Its SwiGLU is four times as wide as a token, which is ⅔ of 6.
    "fit-xl": FiTConfig(
        hidden_size=1152,
        depth=28,
        num_heads=16,
        num_classes=1000,
        adaln_lora_dim=0,
        mlp_ratio=6.0,
        qk_norm=False,
        prediction="epsilon",
    ),
}


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """Scale of the latents the model was trained on, and how to guess RGB from them for previews.

    ``latent_rgb_factors`` is (channels, 3) and ``latent_rgb_factors_bias`` (3,), from a scaled latent to RGB in −1..1. With more
    rows than channels, they are for ``preview.preview_features``.
    """

    scale_factor: float
    latent_rgb_factors: list[list[float]] | None = None
    latent_rgb_factors_bias: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    """All that a checkpoint knows beside its weights."""

    config: FiTConfig
    class_names: Sequence[str] | None = None
    """One name a class, in order of id; None where the checkpoint names none."""
    latent_format: LatentFormat | None = None
    """None means Stable Diffusion 1.x latents."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Free-form provenance: data, steps, recipe."""

    def __post_init__(self) -> None:
        if self.class_names is not None and len(self.class_names) != self.config.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class names for {self.config.num_classes} classes"
            )

    def to_json(self) -> str:
        parts: dict[str, Any] = {"config": asdict(self.config)}
        if self.class_names is not None:
            parts["class_names"] = list(self.class_names)
        if self.latent_format is not None:
            parts["latent_format"] = {
                k: v for k, v in asdict(self.latent_format).items() if v is not None
            }
        if self.training:
            parts["training"] = dict(self.training)
        return json.dumps(parts, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Raises ``ValueError`` on anything but what ``to_json`` writes."""
        try:
            parts = json.loads(text)
            latent_format = parts.get("latent_format")
            return cls(
                config=FiTConfig.from_dict(parts["config"]),
                class_names=parts.get("class_names"),
                latent_format=None if latent_format is None else LatentFormat(**latent_format),
                training=parts.get("training", {}),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"malformed {METADATA_KEY!r} metadata: {error!r}") from None

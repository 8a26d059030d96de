"""The architecture of a model, which its weights alone do not tell, and the published sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from .extrapolation import ALL_METHODS, AUTO, Extrapolation
from .flow import FLOWS
from .untrusted_json import is_finite_number

PATCH_SIZE = 2
PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_COUNTS = {
    "hidden_size": 1,
    "depth": 1,
    "num_heads": 1,
    "num_classes": 1,
    "adaln_lora_dim": 0,
    "in_channels": 1,
    "train_length": 1,
}
"""The whole numbers among the fields, with the least value of each."""
_LARGEST_COUNT = 2**24
_LARGEST_FACTOR = 1e9


@dataclass(frozen=True, slots=True)
class FiTConfig:
    """Architecture of a FiTv2 (arXiv 2410.13925, section 3) or a FiT version 1 (arXiv 2402.12376).

    A version 1 differs in ``qk_norm``, ``adaln_lora_dim``, ``mlp_ratio`` and ``prediction``. Raises
    ``ValueError`` for values that do not fit together.
    """

    hidden_size: int
    """Width of a token."""
    depth: int
    """Number of transformer blocks."""
    num_heads: int
    """Attention heads; ``hidden_size / num_heads`` must be a multiple of 4 (two axes, in pairs)."""
    num_classes: int
    """Classes without the null class, whose id is ``num_classes``."""
    adaln_lora_dim: int
    """Rank of each block's own part of the AdaLN modulation. 0 gives each block a full modulation
    of its own and no shared one (version 1)."""
    patch_size: int = PATCH_SIZE
    """Latent pixels that a token covers on each side. Must be 2: sizes everywhere are counted in
    tokens of 16 × 16 image pixels."""
    in_channels: int = 4
    """Latent channels."""
    mlp_ratio: float = 4.0
    """SwiGLU's hidden width is ⅔ of this times ``hidden_size``."""
    rope_base: float = 10000.0
    """Base of the rotary frequencies."""
    train_length: int = 16
    """Tokens per side of the square that the model was trained on; 16 means 256 pixels."""
    extrapolation: str = "none"
    """RoPE method that the weights were trained with; the default where a call names none."""
    decoupled: bool = True
    """Whether that method scales height and width independently."""
    qk_norm: bool = True
    """Whether queries and keys are normalised; version 1 does not."""
    prediction: str = "velocity"
    """What the output is, a key of ``flow.FLOWS``: "velocity" of the rectified flow, or "epsilon",
    the noise of a DDPM with linear betas (version 1)."""

    def __post_init__(self) -> None:
        self._require_types()
        if self.patch_size != PATCH_SIZE:
            raise ValueError(f"FiTConfig.patch_size must be {PATCH_SIZE}, not {self.patch_size!r}.")
        if self.prediction not in FLOWS:
            raise ValueError(
                f"FiTConfig.prediction must be one of {', '.join(FLOWS)}, not {self.prediction!r}."
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not divisible by num_heads {self.num_heads}."
            )
        if self.head_dim % 4:
            raise ValueError(
                f"hidden_size {self.hidden_size} over num_heads {self.num_heads} gives a head of "
                f"{self.head_dim}; 2-D RoPE needs a multiple of 4."
            )
        if not self.mlp_hidden_size:
            raise ValueError(
                f"mlp_ratio {self.mlp_ratio:g} leaves no width to the MLP of hidden_size "
                f"{self.hidden_size}."
            )
        _ = self.default_extrapolation  # raises for an unknown method
        if self.extrapolation == AUTO:
            raise ValueError(
                "FiTConfig.extrapolation is the method of the training, one of "
                f"{', '.join(ALL_METHODS)}, not {AUTO!r}."
            )

    def _require_types(self) -> None:
        """Raise ``ValueError`` for a field whose type or range is wrong by itself."""
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"FiTConfig.{name} must be a whole number of {least} or more, not {value!r}."
                )
            if value > _LARGEST_COUNT:
                raise ValueError(f"FiTConfig.{name} must be at most {_LARGEST_COUNT}.")
        for name in ("mlp_ratio", "rope_base"):
            value = getattr(self, name)
            if not is_finite_number(value) or not 0 < value <= _LARGEST_FACTOR:
                raise ValueError(
                    f"FiTConfig.{name} must be a number above 0 and at most {_LARGEST_FACTOR:g}, "
                    f"not {value!r}."
                )
        for name, kind in (
            ("decoupled", bool),
            ("qk_norm", bool),
            ("extrapolation", str),
            ("prediction", str),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ValueError(f"FiTConfig.{name} must be a {kind.__name__}, not {value!r}.")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def mlp_hidden_size(self) -> int:
        return int(self.hidden_size * self.mlp_ratio * 2 / 3)

    @property
    def null_class(self) -> int:
        """Id of the null class, the last row of the label table."""
        return self.num_classes

    @property
    def train_tokens(self) -> int:
        """Number of tokens of the square that the model was trained on."""
        return self.train_length**2

    @property
    def default_extrapolation(self) -> Extrapolation:
        """The extrapolation that the weights were trained with."""
        return Extrapolation(self.extrapolation, self.decoupled, train_length=self.train_length)

    @classmethod
    def preset(cls, name: str) -> FiTConfig:
        """A published size by name. Raises ``ValueError`` that lists the presets."""
        try:
            return PRESETS[name]
        except KeyError:
            raise ValueError(
                f"Unknown preset {name!r}. Choose from {', '.join(PRESETS)}."
            ) from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FiTConfig:
        """Raises ``ValueError`` for unknown or missing fields, so no newer file is read in part."""
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(
                f"unknown configuration fields {', '.join(unknown)}; a newer version of this pack "
                "may have written them"
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
    # The high-resolution post-training: the same shapes, but NTK rotary frequencies in training.
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

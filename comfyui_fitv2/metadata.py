"""What a checkpoint says besides its weights: the JSON that our safetensors files carry."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePath
from typing import Any

from .config import FiTConfig
from .extrapolation import AUTO, Extrapolation
from .recommendation import Recommendation
from .untrusted_json import is_finite_number, is_list, is_text, parse_json

METADATA_KEY = "fitv2"
"""Key of the JSON in the metadata of a safetensors file."""
METADATA_TENSOR = "fitv2_metadata"
"""Key of a uint8 tensor with this JSON, for hosts that save tensors but no metadata."""
PREVIEW_KINDS = ("linear", "products")


@dataclass(frozen=True, slots=True)
class LatentFormat:
    """The scale of a model's latents, and how previews turn them into colours without a VAE.

    Raises ``ValueError`` for an unknown ``preview_kind``, a scale that is not a positive number,
    and colours that are not rows of three finite numbers.
    """

    scale_factor: float
    """The model's latents are those of the VAE times this."""
    latent_rgb_factors: list[list[float]] | None = None
    """(features, 3), from features of a scaled latent to RGB in −1..1; None without previews."""
    latent_rgb_factors_bias: list[float] | None = None
    """(3,), added to the product; None means 0."""
    preview_kind: str = "linear"
    """What the features are: "linear", the latent's channels as they are, or "products", those of
    ``preview.preview_features``."""

    def __post_init__(self) -> None:
        if self.preview_kind not in PREVIEW_KINDS:
            raise ValueError(
                f"unknown preview_kind {self.preview_kind!r}; there are {', '.join(PREVIEW_KINDS)}"
            )
        if not is_finite_number(self.scale_factor) or self.scale_factor <= 0:
            raise ValueError(f"scale_factor must be a positive number, not {self.scale_factor!r}")
        factors, bias = self.latent_rgb_factors, self.latent_rgb_factors_bias
        if factors is not None and not (is_list(factors) and all(map(_is_colour, factors))):
            raise ValueError("latent_rgb_factors must be rows of three finite numbers")
        if bias is not None and not _is_colour(bias):
            raise ValueError("latent_rgb_factors_bias must be three finite numbers")

    def to_dict(self) -> dict[str, Any]:
        """The fields that are set, for JSON; ``from_dict`` reads them back."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        if self.latent_rgb_factors is None:
            del values["preview_kind"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], channels: int) -> LatentFormat:
        """The format of a model with this many latent ``channels``.

        Files from before ``preview_kind`` was written tell it by the number of factors: it exceeds
        that of the channels for "products" alone. Raises ``TypeError`` for unknown fields.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a latent format must be an object, not {type(values).__name__}")
        products = len(values.get("latent_rgb_factors") or ()) > channels
        return cls(**{"preview_kind": "products" if products else "linear", **values})


def _is_colour(value: object) -> bool:
    return is_list(value) and len(value) == 3 and all(map(is_finite_number, value))


def _recommendations(parts: Mapping[str, Any]) -> list[Recommendation] | None:
    values = parts.get("recommended_extrapolation")
    if values is None:
        return None
    if not is_list(values):
        raise TypeError(f"recommended_extrapolation must be a list, not {type(values).__name__}")
    return list(map(Recommendation.from_dict, values))


def _is_texts(value: object) -> bool:
    return is_list(value) and all(map(is_text, value))


SD_LATENT_FORMAT = LatentFormat(0.18215)
"""Stable Diffusion 1.x latents: what a checkpoint without a latent format was trained on."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """All that a checkpoint says besides its weights.

    Raises ``ValueError`` where the class names are not one text per class, or the synonyms not one
    list of texts per class, and for recommendations that name no method or are not in order.
    """

    config: FiTConfig
    class_names: Sequence[str] | None = None
    """One name per class, in order of class id; None where the checkpoint has no names."""
    latent_format: LatentFormat | None = None
    """None means ``SD_LATENT_FORMAT``."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Free-form provenance: data, steps, recipe."""
    class_synonyms: Sequence[Sequence[str]] | None = None
    """What else each class is called: one list of texts per class, in order of class id."""
    recommended_extrapolation: Sequence[Recommendation] | None = None
    """What was measured to be best beyond the trained size, from small images to large ones; None
    where nothing was measured. The extrapolation "auto" follows it."""

    def __post_init__(self) -> None:
        if self.class_names is not None and not (
            is_list(self.class_names) and all(map(is_text, self.class_names))
        ):
            raise ValueError("class_names must be a list of texts, one per class")
        if self.class_names is not None and len(self.class_names) != self.config.num_classes:
            raise ValueError(
                f"{len(self.class_names)} class names for {self.config.num_classes} classes"
            )
        if self.class_synonyms is not None and not (
            is_list(self.class_synonyms) and all(map(_is_texts, self.class_synonyms))
        ):
            raise ValueError("class_synonyms must be a list of lists of texts, one per class")
        if self.class_synonyms is not None and len(self.class_synonyms) != self.config.num_classes:
            raise ValueError(
                f"{len(self.class_synonyms)} lists of class synonyms for "
                f"{self.config.num_classes} classes"
            )
        self._check_recommendations()

    def _check_recommendations(self) -> None:
        """Raise ``ValueError`` for unknown methods, and where none or not the last is for all."""
        limits = []
        for recommendation in self.recommended_extrapolation or ():
            # Raises for names that this version does not know.
            Extrapolation(recommendation.method, attention_scale=recommendation.attention_scale)
            if recommendation.method == AUTO:
                raise ValueError("recommended_extrapolation must name a method, not 'auto'")
            up_to = recommendation.up_to
            limits.append(math.inf if up_to is None else up_to)
        if limits != sorted(set(limits)):
            raise ValueError(
                "the up_to of recommended_extrapolation must grow from one to the next"
            )

    def filled_in(self, extrapolation: Extrapolation) -> Extrapolation:
        """``extrapolation`` with this model's trained length and what is recommended for it."""
        return extrapolation.for_model(self.config, self.recommended_extrapolation)

    @property
    def vae_name(self) -> str | None:
        """The name of the VAE for the model's latents, without ".safetensors"; None where the
        checkpoint does not tell."""
        named: Any = self.training
        for key in ("config", "samples", "vae"):
            named = named.get(key) if isinstance(named, Mapping) else None
        if not named or not isinstance(named, str):
            return None
        name = PurePath(named).name.removesuffix(".safetensors")
        return "fit_tiny_vae" if name == "tiny" else name

    @property
    def vae(self) -> str:
        """The VAE for the model's latents, in words."""
        if self.vae_name is not None:
            return f"the VAE {self.vae_name}"
        if self.latent_format is None:
            return "the VAE of Stable Diffusion 1.x"
        return "the VAE that it was trained with"

    def to_json(self) -> str:
        parts: dict[str, Any] = {"config": asdict(self.config)}
        if self.class_names is not None:
            parts["class_names"] = list(self.class_names)
        if self.class_synonyms is not None:
            parts["class_synonyms"] = list(map(list, self.class_synonyms))
        if self.recommended_extrapolation is not None:
            parts["recommended_extrapolation"] = [
                recommendation.to_dict() for recommendation in self.recommended_extrapolation
            ]
        if self.latent_format is not None:
            parts["latent_format"] = self.latent_format.to_dict()
        if self.training:
            parts["training"] = dict(self.training)
        return json.dumps(parts, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """The reverse of ``to_json``. Raises ``ValueError`` for anything that it does not write."""
        try:
            parts = parse_json(text)
            config = FiTConfig.from_dict(parts["config"])
            latent_format = parts.get("latent_format")
            training = parts.get("training", {})
            if not isinstance(training, Mapping):
                raise TypeError(f"training must be an object, not {type(training).__name__}")
            return cls(
                config=config,
                class_names=parts.get("class_names"),
                class_synonyms=parts.get("class_synonyms"),
                recommended_extrapolation=_recommendations(parts),
                latent_format=None
                if latent_format is None
                else LatentFormat.from_dict(latent_format, config.in_channels),
                training=training,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"malformed {METADATA_KEY!r} metadata: {error!r}") from None

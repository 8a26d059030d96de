"""The latent sets of a study: to train on, and to measure on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..data import open_latent_set
from ..data.latent_set import INFO_FILE, LatentSet
from ..prepare import PrepareOptions, prepare
from ..train.config import ConfigError, TrainingConfig
from ..whole_files import differences, read_json, write_json
from .config import HeldOutSet, ScalingConfig
from .drawn_shapes import CLASSES, Ratios, write_drawings

_TRAINING_SEED, _FIRST_HELD_OUT_SEED, _REFERENCES_SEED = 1, 2, 1000


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What decides a set of drawings and their latents."""

    count: int
    side: int
    image_size: int
    seed: int
    ratios: Ratios


@dataclass(frozen=True, slots=True)
class Measured:
    """Images to measure on."""

    name: str
    latents: LatentSet
    indices: list[int]
    """Those whose loss is measured."""
    settings: HeldOutSet | None = None
    """None for a set that the user named."""
    references: Path | None = None
    """Folder of other drawings of the kind, to compare images with; None: none are compared."""


def training_folder(output: Path) -> Path:
    return output / "data" / "training"


def make_training_set(config: ScalingConfig, output: Path) -> None:
    """Make and encode the drawings to train on, unless it was done."""
    folder, drawings = training_folder(output), config.drawings
    made = _Drawn(drawings.count, drawings.side, drawings.image_size, _TRAINING_SEED, Ratios())
    _make(folder, made, _precision(config))


def make_held_out_sets(config: ScalingConfig, output: Path) -> list[Measured]:
    """Make the drawings to measure on, and encode those for losses, unless it was done."""
    sets = []
    for number, (name, settings) in enumerate(config.held_out.items()):
        folder = output / "data" / f"held_out_{number}"
        # A larger set shows the same kind of drawing, with more pixels.
        side = round(config.drawings.side * settings.image_size / config.drawings.image_size)
        seed = _FIRST_HELD_OUT_SEED + number
        made = _Drawn(settings.count, side, settings.image_size, seed, settings.ratios)
        _make(folder, made, _precision(config))
        references = None
        if settings.sample and (count := _references(config)):
            references = folder.with_name(f"{folder.name}_references")
            size = settings.sample_size  # a drawing of another shape would be cut
            ratios = Ratios.of(size.width, size.height)
            drawn = replace(made, count=count, seed=seed + _REFERENCES_SEED, ratios=ratios)
            _require_same(references.with_suffix(".json"), asdict(drawn))
            write_drawings(references, count, side, drawn.seed, ratios)
        latents = open_latent_set(folder)
        sets.append(Measured(name, latents, list(range(len(latents))), settings, references))
    return sets


def _precision(config: ScalingConfig) -> Literal["bf16", "fp32"]:
    """Of the VAE: that of the training."""
    return config.training.get("precision", TrainingConfig.precision)


def _references(config: ScalingConfig) -> int:
    """Drawings to compare with, and as many others as images are generated: see the floors."""
    if config.distances is None:
        return 0
    return config.distances.references + config.distances.per_class * len(CLASSES)


def given_set(folder: Path) -> Measured:
    """A latent set that the user named, all of which is measured."""
    latents = open_latent_set(folder)
    return Measured("held out", latents, list(range(len(latents))))


def _make(folder: Path, made: _Drawn, precision: Literal["bf16", "fp32"]) -> None:
    """Make a latent set of drawings, unless it is there."""
    images = folder.with_name(f"{folder.name}_drawings")
    _require_same(folder.with_suffix(".json"), {**asdict(made), "precision": precision})
    if not (folder / INFO_FILE).is_file():
        write_drawings(images, made.count, made.side, made.seed, made.ratios)
        prepare(
            PrepareOptions(
                images=images,
                output=folder,
                image_size=made.image_size,
                flip=False,
                precision=precision,
                workers=0,
            )
        )


def _require_same(file: Path, settings: dict[str, Any]) -> None:
    """Store the settings of a set at first. Raises ``ConfigError`` where they were others."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)
    elif changed := differences(read_json(file), settings):
        raise ConfigError(
            f"{file.with_suffix('')} has drawings of other settings: {'; '.join(changed)}. Name "
            "another --output."
        )

"""The latent sets of a study: to train on, and to measure on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..data import open_latent_set
from ..data.latent_set import INFO_FILE, LatentSet
from ..data.sources import evenly
from ..prepare import PrepareOptions, prepare
from ..train.config import ConfigError
from ..whole_files import differences, write_json
from .config import HeldOutSet, ScalingConfig
from .drawn_shapes import CLASSES, Ratios, write_drawings

_TRAINING_SEED, _FIRST_HELD_OUT_SEED = 1, 2


@dataclass(frozen=True, slots=True)
class Measured:
    """Images to measure on."""

    name: str
    latents: LatentSet
    indices: list[int]
    """Those whose loss is measured."""
    settings: HeldOutSet | None = None
    """None for a set that the user named."""
    drawings: Path | None = None
    """Folder of the drawings, for features."""


def training_folder(output: Path) -> Path:
    return output / "data" / "training"


def make_training_set(config: ScalingConfig, output: Path) -> None:
    """Make and encode the drawings to train on, unless it was done."""
    drawings, folder = config.drawings, training_folder(output)
    _make(folder, drawings.count, drawings.side, drawings.image_size, Ratios(), _TRAINING_SEED)


def make_held_out_sets(config: ScalingConfig, output: Path) -> list[Measured]:
    """Make and encode the drawings to measure on, unless it was done."""
    sets = []
    for number, (name, settings) in enumerate(config.held_out.items()):
        folder = output / "data" / f"held_out_{number}"
        references = _references(config) if settings.sample else 0
        # A larger set shows the same kind of drawing, with more pixels.
        side = round(config.drawings.side * settings.image_size / config.drawings.image_size)
        drawings = _make(
            folder,
            max(settings.count, references),
            side,
            settings.image_size,
            settings.ratios,
            _FIRST_HELD_OUT_SEED + number,
        )
        latents = open_latent_set(folder)
        chosen = evenly(range(len(latents)), settings.count)
        sets.append(Measured(name, latents, chosen, settings, drawings))
    return sets


def _references(config: ScalingConfig) -> int:
    """Drawings to compare with, and as many others as images are generated: see the floors."""
    if config.distances is None:
        return 0
    return config.distances.references + config.distances.per_class * len(CLASSES)


def given_set(folder: Path) -> Measured:
    """A latent set that the user named, all of which is measured."""
    latents = open_latent_set(folder)
    return Measured("held out", latents, list(range(len(latents))))


def _make(folder: Path, count: int, side: int, image_size: int, ratios: Ratios, seed: int) -> Path:
    """Make a latent set of drawings, unless it is there; returns the drawings' folder."""
    images = folder.with_name(f"{folder.name}_drawings")
    _require_same(
        folder.with_name(f"{folder.name}.json"),
        {"count": count, "side": side, "image_size": image_size, "seed": seed, **asdict(ratios)},
    )
    if not (folder / INFO_FILE).is_file():
        write_drawings(images, count, side, seed, ratios)
        prepare(
            PrepareOptions(
                images=images, output=folder, image_size=image_size, flip=False, workers=0
            )
        )
    return images


def _require_same(file: Path, settings: dict[str, float]) -> None:
    """Store the settings of a set at first. Raises ``ConfigError`` where they were others."""
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)
    elif changed := differences(json.loads(file.read_text(encoding="utf-8")), settings):
        raise ConfigError(
            f"{file.with_suffix('')} has drawings of other settings: {'; '.join(changed)}. Name "
            "another --output."
        )

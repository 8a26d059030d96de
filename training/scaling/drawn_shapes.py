"""Drawings of textured shapes, drawn from a seed, for experiments that need no data.

A class is a shape with a texture, such as "checked disc". Place, size, angle and colours of the
shape are random, and so are the ratio of the sides and the background. The same seed always draws
the same drawings. They are in the public domain: nothing is copied from anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, product
from math import cos, exp, log, pi, sin
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from ..whole_files import write_whole

_SUPERSAMPLING = 2
"""A drawing is drawn this many times as large per side, and averaged."""
_GROUNDS = ((255, 255, 255), (20, 20, 20))
_INKS = ((206, 17, 38), (0, 56, 147), (252, 209, 22))
"""Colours of backgrounds and of shapes that the bundled VAE keeps; few, because a small model must
learn to keep to those of an image."""
_TURN = pi / 24
"""How far shapes and textures are turned at most."""
_VARIATION = 10.0
"""How far a colour may be from the palette's in each channel."""
_LEAST_CONTRAST = 145.0
"""Distance in RGB between the colours that must be told apart."""

Outline = list[tuple[float, float]]
"""Corners in a square from −1 to 1."""
Texture = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""For coordinates along and across in periods: where the second colour is."""


def _regular(corners: int) -> Outline:
    """A polygon on the unit circle."""
    angles = [2 * pi * i / corners - pi / 2 for i in range(corners)]
    return [(cos(angle), sin(angle)) for angle in angles]


def _cross() -> Outline:
    arm, end = 0.34, 0.95
    quarter = [(-arm, -end), (arm, -end), (arm, -arm)]
    turns = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    return [(x * c - y * s, x * s + y * c) for c, s in turns for x, y in quarter]


SHAPES: dict[str, Outline] = {
    "cross": _cross(),
    "disc": _regular(48),
    "triangle": _regular(3),
}
TEXTURES: dict[str, Texture] = {
    "plain": lambda u, v: np.zeros(u.shape, bool),
    "striped": lambda u, v: u % 1 < 0.5,
    "checked": lambda u, v: (u * 0.7 % 1 < 0.5) ^ (v * 0.7 % 1 < 0.5),
}
CLASSES: list[str] = sorted(f"{texture} {shape}" for texture, shape in product(TEXTURES, SHAPES))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratios:
    """How far the longer side of a drawing exceeds the shorter one.

    Raises ``ValueError`` unless 1 ≤ least ≤ most.
    """

    least: float = 1.0
    most: float = 2.0
    turned: Literal["both", "wide", "high"] = "both"
    """Which side is the longer one; both: half of the drawings are upright."""

    @classmethod
    def of(cls, width: int, height: int) -> Ratios:
        """The ratio of one size."""
        ratio = max(width, height) / min(width, height)
        return cls(least=ratio, most=ratio, turned="wide" if width >= height else "high")

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(
                f"The ratios must rise from 1 or more, not from {self.least:g} to {self.most:g}."
            )


def write_drawings(folder: Path, count: int, side: int, seed: int, ratios: Ratios) -> None:
    """Write ``count`` PNGs into ``folder``, in a sub-folder per class.

    Each has about ``side``² pixels. Existing files stay.
    """
    for index in tqdm(range(count), desc=folder.name, unit="image", leave=False):
        name = CLASSES[index % len(CLASSES)]
        path = folder / name / f"{index:06d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            image = drawing(name, side, ratios, np.random.default_rng([seed, index]))
            with write_whole(path) as temporary:
                image.save(temporary, "PNG")


def drawing(name: str, side: int, ratios: Ratios, random: np.random.Generator) -> Image.Image:
    """A shape of the class ``name``, one of ``CLASSES``, on a background."""
    texture, _, shape = name.partition(" ")
    exponent = random.uniform(log(ratios.least), log(ratios.most)) / 2
    either = random.choice([-1, 1])
    ratio = exp(exponent * {"both": either, "wide": 1, "high": -1}[ratios.turned])
    width, height = round(side * ratio), round(side / ratio)
    size = width * _SUPERSAMPLING, height * _SUPERSAMPLING
    background, first, second = _colours(random)
    canvas = _background(background, size, random)
    radius = random.uniform(0.42, 0.48) * min(size)
    x, y = (side / 2 + (side / 2 - radius) * random.uniform(-0.5, 0.5) for side in size)
    colours = Image.fromarray(_textured(TEXTURES[texture], first, second, size, radius, random))
    canvas.paste(colours, mask=_mask(SHAPES[shape], size, (x, y, radius), random))
    return canvas.resize((width, height), Image.Resampling.BOX)


def _colours(random: np.random.Generator) -> list[np.ndarray]:
    """Three colours, each (3,), that can be told apart: near those of the palette."""
    while True:
        drawn = [_GROUNDS[random.integers(2)], *random.permutation(_INKS)[:2]]
        chosen = [np.clip(c + random.uniform(-_VARIATION, _VARIATION, 3), 0, 255) for c in drawn]
        if all(np.linalg.norm(a - b) > _LEAST_CONTRAST for a, b in combinations(chosen, 2)):
            return chosen


def _background(
    colour: np.ndarray, size: tuple[int, int], random: np.random.Generator
) -> Image.Image:
    """A gentle gradient around ``colour``."""
    corners = np.clip(colour + random.uniform(-8, 8, (2, 2, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)


def _textured(
    texture: Texture,
    first: np.ndarray,
    second: np.ndarray,
    size: tuple[int, int],
    radius: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Two colours in the ``texture`` at a random angle and phase, (height, width, 3) uint8.

    The period is about the shape's radius: what a small model learns to continue.
    """
    period = radius * random.uniform(0.8, 1.0)
    angle = random.uniform(-_TURN, _TURN)
    y, x = np.mgrid[: size[1], : size[0]] / period
    u = x * cos(angle) + y * sin(angle) + random.uniform()
    v = y * cos(angle) - x * sin(angle) + random.uniform()
    return np.stack([first, second]).astype(np.uint8)[texture(u, v).astype(np.intp)]


def _mask(
    outline: Outline,
    size: tuple[int, int],
    spot: tuple[float, float, float],
    random: np.random.Generator,
) -> Image.Image:
    """White where the shape is, turned by a random angle."""
    x, y, radius = spot
    angle = random.uniform(-_TURN, _TURN)
    c, s = radius * cos(angle), radius * sin(angle)
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon([(x + a * c - b * s, y + a * s + b * c) for a, b in outline], 255)
    return mask

"""Images of coloured shapes, made from a seed, for experiments that need no data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from comfyui_fitv2.resolution import for_ratio

from ..whole_files import write_whole

RATIOS = ("1:1", "3:2", "2:3", "2:1", "1:2")
_SUPERSAMPLING = 4
"""Shapes are rendered this many times as large per side, and averaged."""

Box = tuple[float, float, float, float]
Colour = tuple[int, ...]
Shape = Callable[[ImageDraw.ImageDraw, Box, Colour], None]


def _bars(pen: ImageDraw.ImageDraw, box: Box, colour: Colour) -> None:
    left, top, right, bottom = box
    height = bottom - top
    for i in range(0, 5, 2):
        pen.rectangle((left, top + height * i / 5, right, top + height * (i + 1) / 5), colour)


def _cross(pen: ImageDraw.ImageDraw, box: Box, colour: Colour) -> None:
    left, top, right, bottom = box
    width, height = (right - left) / 3, (bottom - top) / 3
    pen.rectangle((left + width, top, right - width, bottom), colour)
    pen.rectangle((left, top + height, right, bottom - height), colour)


def _disc(pen: ImageDraw.ImageDraw, box: Box, colour: Colour) -> None:
    pen.ellipse(box, colour)


def _ring(pen: ImageDraw.ImageDraw, box: Box, colour: Colour) -> None:
    pen.ellipse(box, outline=colour, width=max(round((box[2] - box[0]) / 5), 1))


def _square(pen: ImageDraw.ImageDraw, box: Box, colour: Colour) -> None:
    pen.rectangle(box, colour)


def _triangle(pen: ImageDraw.ImageDraw, box: Box, colour: Colour) -> None:
    left, top, right, bottom = box
    pen.polygon([(left, bottom), ((left + right) / 2, top), (right, bottom)], colour)


SHAPES: dict[str, Shape] = {
    "bars": _bars,
    "cross": _cross,
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
}
"""The classes, in the order of their names."""


def write_shapes(folder: Path, count: int, image_size: int, seed: int) -> None:
    """Write ``count`` PNGs into ``folder``, in a sub-folder per class.

    They have the aspect ratios ``RATIOS`` and at most ``image_size``² pixels. Existing files stay.
    """
    names = list(SHAPES)
    for index in tqdm(range(count), desc=folder.name, unit="image", leave=False):
        name = names[index % len(names)]
        path = folder / name / f"{index:06d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            image = shape_image(name, image_size, np.random.default_rng([seed, index]))
            with write_whole(path) as temporary:
                image.save(temporary, "PNG")


def shape_image(name: str, image_size: int, random: np.random.Generator) -> Image.Image:
    """Two to five shapes of one kind on a colour gradient.

    Colours, places and sizes are random. ``name`` is a key of ``SHAPES``.
    """
    size = for_ratio(RATIOS[random.integers(len(RATIOS))], (image_size // 16) ** 2)
    width, height = size.width * _SUPERSAMPLING, size.height * _SUPERSAMPLING
    corners = random.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    for _ in range(random.integers(2, 6)):
        side = random.uniform(0.2, 0.6) * min(width, height)
        x, y = random.uniform(0, width - side), random.uniform(0, height - side)
        SHAPES[name](pen, (x, y, x + side, y + side), tuple(random.integers(0, 256, 3).tolist()))
    return image.resize((size.width, size.height), Image.Resampling.BOX)

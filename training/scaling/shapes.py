"""Pictures drawn from a seed: as many as wanted, of shapes in colours, for experiments that everyone can repeat without any data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from comfyui_fitv2.resolution import for_ratio

from ..whole_files import temporary_file

RATIOS = ("1:1", "3:2", "2:3", "2:1", "1:2")
_SMOOTH = 4
"""Drawn so many times as large and averaged."""

Box = tuple[float, float, float, float]
Shape = Callable[[ImageDraw.ImageDraw, Box, tuple[int, ...]], None]


def _cross(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    width, height = (right - left) / 3, (bottom - top) / 3
    pen.rectangle((left + width, top, right - width, bottom), colour)
    pen.rectangle((left, top + height, right, bottom - height), colour)


def _bars(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    for i in range(0, 5, 2):
        pen.rectangle(
            (left, top + (bottom - top) * i / 5, right, top + (bottom - top) * (i + 1) / 5), colour
        )


def _triangle(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, ...]) -> None:
    left, top, right, bottom = box
    pen.polygon([(left, bottom), ((left + right) / 2, top), (right, bottom)], colour)


def _ring(pen: ImageDraw.ImageDraw, box: Box, colour: tuple[int, ...]) -> None:
    pen.ellipse(box, outline=colour, width=max(round((box[2] - box[0]) / 5), 1))


SHAPES: dict[str, Shape] = {
    "bars": _bars,
    "cross": _cross,
    "disc": lambda pen, box, colour: pen.ellipse(box, colour),
    "ring": _ring,
    "square": lambda pen, box, colour: pen.rectangle(box, colour),
    "triangle": _triangle,
}


def draw_pictures(folder: Path, count: int, resolution: int, seed: int) -> None:
    """``count`` PNGs in a sub-folder a class, of ``RATIOS`` and at most ``resolution``² pixels; those that are there stay."""
    for index in tqdm(range(count), desc=f"drawing {folder.name}", unit="image", leave=False):
        name = list(SHAPES)[index % len(SHAPES)]
        path = folder / name / f"{index:06d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary_file(path) as file:
                draw_picture(name, resolution, np.random.default_rng([seed, index])).save(
                    file, "PNG"
                )


def draw_picture(name: str, resolution: int, random: np.random.Generator) -> Image.Image:
    """Two to five shapes of one kind, of random colours, places and sizes, on a ground that runs from one colour to another."""
    size = for_ratio(RATIOS[random.integers(len(RATIOS))], (resolution // 16) ** 2)
    width, height = size.width * _SMOOTH, size.height * _SMOOTH
    picture = Image.fromarray(random.integers(0, 256, (2, 2, 3)).astype(np.uint8)).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    pen = ImageDraw.Draw(picture)
    for _ in range(random.integers(2, 6)):
        side = random.uniform(0.2, 0.6) * min(width, height)
        x, y = random.uniform(0, width - side), random.uniform(0, height - side)
        SHAPES[name](pen, (x, y, x + side, y + side), tuple(random.integers(0, 256, 3).tolist()))
    return picture.resize((size.width, size.height), Image.Resampling.BOX)

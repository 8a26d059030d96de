"""Eight kinds of drawn signs, which the bundled checkpoint does not know, as a folder of images.

    python -m training.recipes.fine_tuning.signs --output runs/signs/images

The folder gets one sub-folder per class. An image depends on its class and number alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from comfyui_fitv2.labels import split_list

from ...command_line import parse_options, run_command
from ...whole_files import write_whole

Point = tuple[float, float]
RED, BLUE, GREEN, YELLOW = "#c8102e", "#0b4ea2", "#00843d", "#ffcd00"
WHITE, BLACK = "#ffffff", "#1c1c1c"
_BACKGROUNDS = ("#dfe7ef", "#f3ead7", "#dcebdc", "#c9d3dd", "#efdfdf", "#8fb3d1")
_ASPECTS = ((1, 1), (3, 2), (2, 3))
_OVERSAMPLING = 4


class _Pen:
    """Draws in coordinates of the sign: its middle is (0, 0), and its edges are at ±1."""

    def __init__(self, image: Image.Image, middle: Point, radius: float, angle: float) -> None:
        self._draw = ImageDraw.Draw(image)
        self._middle, self._radius = middle, radius
        self._cos, self._sin = math.cos(angle), math.sin(angle)

    def polygon(self, points: Sequence[Point], colour: str) -> None:
        (left, top), r = self._middle, self._radius
        turned = [
            (left + r * (x * self._cos - y * self._sin), top + r * (x * self._sin + y * self._cos))
            for x, y in points
        ]
        self._draw.polygon(turned, fill=colour)

    def disc(self, radius: float, colour: str, middle: Point = (0, 0)) -> None:
        self.polygon([_on_circle(i / 72, radius, middle) for i in range(72)], colour)

    def box(self, width: float, height: float, colour: str) -> None:
        x, y = width / 2, height / 2
        self.polygon([(-x, -y), (x, -y), (x, y), (-x, y)], colour)


def _on_circle(turn: float, radius: float, middle: Point = (0, 0)) -> Point:
    """A point on a circle; 0 is its top."""
    angle = 2 * math.pi * turn
    return middle[0] + radius * math.sin(angle), middle[1] - radius * math.cos(angle)


def _triangle(radius: float) -> list[Point]:
    return [_on_circle(i / 3, radius) for i in range(3)]


def _no_entry(pen: _Pen) -> None:
    pen.disc(1, RED)
    pen.box(1.3, 0.36, WHITE)


def _give_way(pen: _Pen) -> None:
    for radius, colour in ((1.1, RED), (0.62, WHITE)):
        pen.polygon([(x, -y) for x, y in _triangle(radius)], colour)


def _warning(pen: _Pen) -> None:
    pen.polygon(_triangle(1.15), BLACK)
    pen.polygon(_triangle(0.92), YELLOW)
    pen.polygon([(-0.13, -0.45), (0.13, -0.45), (0.07, 0.12), (-0.07, 0.12)], BLACK)
    pen.disc(0.12, BLACK, (0, 0.3))


def _turn_right(pen: _Pen) -> None:
    pen.disc(1, BLUE)
    pen.polygon(
        [(-0.7, -0.15), (0, -0.15), (0, -0.5), (0.7, 0), (0, 0.5), (0, 0.15), (-0.7, 0.15)], WHITE
    )


def _first_aid(pen: _Pen) -> None:
    pen.box(1.7, 1.7, GREEN)
    pen.box(1.2, 0.4, WHITE)
    pen.box(0.4, 1.2, WHITE)


def _main_road(pen: _Pen) -> None:
    for radius, colour in ((1.1, BLACK), (1.02, WHITE), (0.72, YELLOW)):
        pen.polygon([_on_circle(i / 4, radius) for i in range(4)], colour)


def _target(pen: _Pen) -> None:
    for radius, colour in ((1, RED), (0.75, WHITE), (0.5, RED), (0.25, WHITE)):
        pen.disc(radius, colour)


def _star(pen: _Pen) -> None:
    pen.disc(1, BLUE)
    pen.polygon([_on_circle(i / 10, 0.3 if i % 2 else 0.8) for i in range(10)], YELLOW)


SIGNS: dict[str, Callable[[_Pen], None]] = {
    "first aid": _first_aid,
    "give way": _give_way,
    "main road": _main_road,
    "no entry": _no_entry,
    "star": _star,
    "target": _target,
    "turn right": _turn_right,
    "warning": _warning,
}


@dataclass(frozen=True, kw_only=True)
class SignOptions:
    """Options of the command."""

    output: Path
    """Folder for the images; images that exist stay."""
    classes: str = "; ".join(SIGNS)
    """Signs to draw, separated by semicolons; by default all."""
    count: int = 24
    """Images per class."""
    first: int = 0
    """Number of the first image, for a second folder with other images."""
    image_size: int = 128
    """An image has about as many pixels as a square with this side."""

    @property
    def names(self) -> list[str]:
        names = split_list(self.classes)
        if unknown := sorted(set(names) - set(SIGNS)):
            raise ValueError(f"there is no sign {unknown[0]!r}. There are: {', '.join(SIGNS)}.")
        return names


def draw_sign(name: str, number: int, image_size: int) -> Image.Image:
    """Image ``number`` of a class: background, place, size and angle of the sign are its own."""
    choose = random.Random(f"{name} {number}")
    wide, high = _ASPECTS[number % len(_ASPECTS)]
    unit = image_size / math.sqrt(wide * high)
    width, height = round(wide * unit), round(high * unit)
    background = choose.choice(_BACKGROUNDS)
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    image = Image.new("RGB", size, background)
    radius = choose.uniform(0.3, 0.42) * min(size)
    middle = (
        size[0] / 2 + choose.uniform(-0.4, 0.4) * (size[0] / 2 - radius),
        size[1] / 2 + choose.uniform(-0.4, 0.4) * (size[1] / 2 - radius),
    )
    SIGNS[name](_Pen(image, middle, radius, choose.uniform(-0.12, 0.12)))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def write_signs(options: SignOptions) -> None:
    """Write ``count`` images per class. Raises ``ValueError`` for a sign that there is not."""
    for name in options.names:
        folder = options.output / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(options.first, options.first + options.count):
            path = folder / f"{number:04d}.png"
            if not path.exists():
                with write_whole(path) as temporary:
                    draw_sign(name, number, options.image_size).save(temporary, "PNG")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.recipes.fine_tuning.signs``; returns its status."""

    def command() -> None:
        options = parse_options(
            SignOptions,
            argv,
            prog="python -m training.recipes.fine_tuning.signs",
            description="Draw eight kinds of signs for the fine-tuning recipe.",
        )
        write_signs(options)
        print(f"{options.output}: {len(options.names)} classes of {options.count} images")

    return run_command(command, "The same command draws what is missing.")


if __name__ == "__main__":
    raise SystemExit(main())

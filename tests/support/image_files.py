"""Small image files, and what a folder holds, for tests."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw


def draw_bar(path: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a white image with a coloured bar at its left."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 3, size[1]), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def contents(folder: Path) -> dict[str, bytes]:
    """The bytes of each file in a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}

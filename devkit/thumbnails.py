"""Thumbnails of the shared workflows: what each of them draws, in a square.

python -m devkit.thumbnails [NUMBER …]    run the workflows, or those with these numbers
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .client import Client
from .environment import DEV, ROOT, say
from .host import own_host
from .server import Server
from .workflow import to_prompt

SIDE, MARGIN, GAP = 512, 20, 10
BACKGROUND = "#202024"
DECODERS = ("VAEDecode", "FiTSweepDecoder")
ROWS = {"2": [2, 1], "3": [1, 1], "4": [1, 1], "5": [4, 3], "6": [4] * 7, "7": [2, 2, 1]}
ROWS["8"] = [2, 2, 1]
"""Images in each row, by a workflow's number; one image where none is named."""


def square(images: Sequence[Image.Image], rows: Sequence[int]) -> Image.Image:
    """Images in rows as wide as the square, or lower where they would not fit into it."""
    inner = SIDE - 2 * MARGIN
    left = list(images)
    lines = [[left.pop(0) for _ in range(count)] for count in rows]
    heights = [
        (inner - GAP * (len(line) - 1)) / sum(image.width / image.height for image in line)
        for line in lines
    ]
    heights = [min(height, inner / 2) if len(lines) > 1 else height for height in heights]
    factor = min(1.0, (inner - GAP * (len(lines) - 1)) / sum(heights))
    sheet = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    y = (SIDE - sum(heights) * factor - GAP * (len(lines) - 1)) / 2
    for line, height in zip(lines, heights, strict=True):
        sizes = [
            (round(image.width / image.height * height * factor), round(height * factor))
            for image in line
        ]
        x = (SIDE - sum(width for width, _ in sizes) - GAP * (len(line) - 1)) / 2
        for image, size in zip(line, sizes, strict=True):
            sheet.paste(image.resize(size, Image.Resampling.LANCZOS), (round(x), round(y)))
            x += size[0] + GAP
        y += height * factor + GAP
    return sheet


def drawn(client: Client, path: Path) -> list[Image.Image]:
    """Every image that a workflow decodes, in the order of its nodes."""
    prompt = to_prompt(json.loads(path.read_text(encoding="utf-8")), client.get("/object_info"))
    decoders = [id_ for id_, node in prompt.items() if node["class_type"] in DECODERS]
    for id_ in decoders:
        prompt[f"shown{id_}"] = {"class_type": "PreviewImage", "inputs": {"images": [id_, 0]}}
    run = client.wait(client.queue(prompt))
    files = [file for id_ in decoders for file in run.outputs[f"shown{id_}"]["images"]]
    return [Image.open(io.BytesIO(client.fetch(file))).convert("RGB") for file in files]


def main() -> None:
    with Server(own_host(), DEV / "base") as server:
        client = Client(server.url)
        for path in sorted((ROOT / "workflows").glob("*.json")):
            number = path.stem.partition(" ")[0]
            if sys.argv[1:] and number not in sys.argv[1:]:
                continue
            image = square(drawn(client, path), ROWS.get(number, [1]))
            image.save(path.with_suffix(".jpg"), quality=90)
            say(f"drew {path.stem}")


if __name__ == "__main__":
    main()

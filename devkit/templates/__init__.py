"""The workflows in ``workflows/`` and the blueprints in ``subgraphs/``, written by a command.

python -m devkit.templates    write them all, with the nodes of a running ComfyUI

A file's name is all that ComfyUI's template browser shows of it: title, description and order.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..canvas import Canvas
from ..environment import ROOT, say
from ..object_info import from_host
from . import blueprints
from .comparisons import extrapolation_methods, guidance, morph, seven_ratios
from .parts import SIZES
from .single import image_to_image, inpaint, ksampler, one_flag, three_ratios

WORKFLOWS = ROOT / "workflows"
SUBGRAPHS = ROOT / "subgraphs"

TEMPLATES: dict[str, Callable[[Canvas], None]] = {
    "1 One flag, any shape": one_flag,
    "2 Three aspect ratios": three_ratios,
    "3 Image to image": image_to_image,
    "4 Inpaint": inpaint,
    "5 Seven aspect ratios compared": seven_ratios,
    "6 Extrapolation methods compared": extrapolation_methods,
    "7 Ways to guide compared": guidance,
    "8 A morph between two classes": morph,
    "9 With the stock KSampler": ksampler,
}
"""By the names of their files, in the order of learning."""


BLUEPRINTS: dict[str, Callable[[Canvas, str], dict[str, Any]]] = {
    "FiT picture": blueprints.picture,
    "FiT inpaint": blueprints.inpaint,
    "FiT beyond the trained size": blueprints.beyond,
    "FiT comparison": blueprints.comparison,
}
"""By the names of their files, which are the names in the node library."""


def written(object_info: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """Every workflow and blueprint, by its file. ``object_info`` is the server's."""
    files = {}
    for name, draw in TEMPLATES.items():
        canvas = Canvas(object_info, SIZES)
        draw(canvas)
        files[WORKFLOWS / f"{name}.json"] = canvas.workflow(name)
    for name, made in BLUEPRINTS.items():
        files[SUBGRAPHS / f"{name}.json"] = made(Canvas(object_info, SIZES), name)
    return files


def main() -> None:
    for path, file in written(from_host()).items():
        text = json.dumps(file, indent=1, ensure_ascii=False) + "\n"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        say(f"wrote {path.relative_to(ROOT)}")

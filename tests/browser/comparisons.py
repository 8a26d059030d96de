"""Comparisons that were never drawn, and what tests do with a FiT Compare Sheet that shows one."""

from __future__ import annotations

from typing import Any

from browser.nodes import Node
from browser.pages import Page
from PIL import Image
from playwright.sync_api import Locator

from devkit.server import Server

SIZES = {"1:1": (256, 256), "2:1": (352, 176), "1:3": (144, 432)}
METHODS = ["none", "linear"]


def comparison(server: Server, rows: list[str], sizes: dict[str, tuple[int, int]]) -> Any:
    """The output of a FiT Compare Sheet, with an image file for each cell."""
    folder = server.base / "temp"
    cells = []
    for row, method in enumerate(rows):
        for column, (width, height) in enumerate(sizes.values()):
            name = f"cell_{row}_{column}_{width}x{height}.png"
            color = (40 + 5 * (row % 40), 60 + 5 * (column % 30), 120)
            Image.new("RGB", (width, height), color).save(folder / name)
            settings = {
                "checkpoint": "fitv2_flags256.safetensors",
                "class": "75 · Finland",
                "size": f"{width} × {height}",
                "width": width,
                "height": height,
                "method": method,
                "decoupled": True,
                "attention_scale": "none",
                "seed": 7,
                "steps": 5,
                "solver": "heun",
                "guidance_scale": 2.5,
            }
            cell = {"row": row, "column": column, "filename": name, "subfolder": ""}
            cell |= {"type": "temp", "width": width, "height": height, "settings": settings}
            tokens = width * height // 256
            cell |= {"tokens": tokens, "factor": round(tokens / 256, 2)}
            cell |= {"side_factor": round(max(width, height) / 256, 2)}
            cells.append(cell)
    return {"images": [], "fitv2_cells": [{"rows": rows, "columns": [*sizes], "cells": cells}]}


def send(page: Page, node: Node, output: Any) -> None:
    """Hand an output to a node as the server does after a run."""
    page.js(
        """([node, output]) => app.api.dispatchCustomEvent("executed",
          {node, display_node: node, output, prompt_id: "made"})""",
        [str(node.id), output],
    )
    node.find(".fitv2-viewer-cell img").first.wait_for()


def bring_into_view(page: Page, node: Node) -> None:
    x, y = page.js(
        """id => {
          const node = app.graph.getNodeById(id);
          node.setSize([800, 880]);
          return [...node.pos];
        }""",
        node.id,
    )
    page.show((200 - x, 80 - y), 1)


def cell(node: Node, row: int, column: int) -> Locator:
    return node.find(f'[data-place="{row},{column}"]')


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.dom.keyboard.press(key)
    page.settle()

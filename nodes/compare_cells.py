"""Every image of a comparison as a file with its settings, for the browser and for a web page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..comfyui_fitv2.resolution import TOKEN_PIXELS, describe_size
from ..sheets.comparison_page import PageCell, comparison_page
from ..sheets.file_names import legal_name
from . import host
from .sweep_cells import Sweep

_LARGEST_IN_JAVASCRIPT = 2**53 - 1
"""The largest whole number from which JavaScript tells every smaller one apart."""

PAGES = "FiT comparisons"
"""The folder of web pages in ComfyUI's output folder."""


@dataclass(frozen=True, slots=True)
class ComparedCell:
    """An image of a comparison, its file and what is known of it."""

    row: int
    column: int
    file: host.SavedFile
    width: int
    height: int
    tokens: int
    factor: float | None
    """Tokens as a multiple of the trained ones, where the sweep is known."""
    side_factor: float | None
    """The longest side as a multiple of the trained one, where the sweep is known."""
    caption: str
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """What the viewer in the browser reads; a seed that it would round is a text."""
        values = asdict(self)
        if self.settings.get("seed", 0) > _LARGEST_IN_JAVASCRIPT:
            values["settings"]["seed"] = str(self.settings["seed"])
        return {**values.pop("file"), **values}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Images in rows and columns, with their names."""

    rows: list[str]
    columns: list[str]
    cells: list[ComparedCell]

    def to_json(self) -> dict[str, Any]:
        """What the viewer in the browser reads."""
        cells = [cell.to_json() for cell in self.cells]
        return {"rows": self.rows, "columns": self.columns, "cells": cells}


def compared(
    node: type[io.ComfyNode],
    images: Sequence[Tensor],
    rows: Sequence[str],
    columns: Sequence[str],
    per_row: int,
    sweep: Sweep | None,
) -> Comparison:
    """Images (H, W, C), row by row, written as temporary files of a node, with all names.

    Settings are those of the sweep where it has as many images. A row or column without a name
    gets an empty one.
    """
    known = sweep if sweep is not None and len(sweep.cells) == len(images) else None
    prefix = host.temporary_prefix()
    cells = []
    for number, image in enumerate(images):
        height, width = image.shape[:2]
        settings: dict[str, Any] = {"size": f"{width} × {height}", "width": width, "height": height}
        factor = side_factor = None
        if known is not None:
            settings = {**known.cells[number].settings(known.model_checkpoint), **settings}
            factor = round(known.cells[number].factor, 2)
            side_factor = round(known.cells[number].side_factor, 2)
        cells.append(
            ComparedCell(
                number // per_row,
                number % per_row,
                host.save_temporary(image, prefix, node, settings),
                width,
                height,
                (width // TOKEN_PIXELS) * (height // TOKEN_PIXELS),
                factor,
                side_factor,
                describe_size(width, height),
                settings,
            )
        )
    of_rows = list(rows) or [""] * -(-len(images) // per_row)
    return Comparison(of_rows, list(columns) or [""] * per_row, cells)


def write_page(comparison: Comparison, title: str) -> str:
    """Write a web page of a comparison into a new folder; returns its path in the output folder."""
    folder = host.new_output_folder(PAGES, legal_name(title, "comparison"))
    (folder / "images").mkdir()
    cells = []
    for number, cell in enumerate(comparison.cells, 1):
        row, column = comparison.rows[cell.row], comparison.columns[cell.column]
        label = legal_name(" · ".join(filter(None, (row, column))))
        name = f"images/{number:04} {label}.png"
        # A copy, because the file has the workflow in it.
        shutil.copyfile(host.path_of(cell.file), folder / name)
        cells.append(
            PageCell(
                cell.row, cell.column, name, cell.width, cell.height, cell.caption, cell.settings
            )
        )
    page = comparison_page(title or "Comparison", comparison.rows, comparison.columns, cells)
    (folder / "index.html").write_text(page, encoding="utf-8")
    return host.relative_to_output(folder / "index.html")

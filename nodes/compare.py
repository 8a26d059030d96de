"""FiT Compare Sheet: images of different sizes, side by side and labelled."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from ..comfyui_fitv2.labels import split_list
from ..comfyui_fitv2.pixels import from_bytes, to_bytes
from ..comfyui_fitv2.resolution import describe_size
from ..sheets.contact_sheet import FITTED, SCALES, TRUE_SCALE, SheetCell
from ..sheets.pages import contact_sheets
from . import host
from .compare_cells import Comparison, compared, write_page
from .sweep import FIT_SWEEP
from .sweep_cells import Sweep


class FiTCompareSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def names(name: str) -> io.String.Input:
            return io.String.Input(
                name,
                default="",
                advanced=True,
                tooltip="Names with semicolons between them. Empty: those of the sweep, or none.",
            )

        return io.Schema(
            node_id="FiTCompareSheet",
            display_name="FiT Compare Sheet",
            category="FiT",
            description="Images of different sizes on one sheet, with names for rows and columns, "
            "and size and token count under each image. Each image is kept with its settings.",
            search_aliases=[
                "fitv2",
                "xy",
                "plot",
                "sheet",
                "compare",
                "contact sheet",
                "side by side",
                "xy plot",
                "grid",
                "comparison",
                "image grid",
                "labels",
                "html",
            ],
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Images of any sizes, row by row; a batch counts as its images.",
                ),
                io.Combo.Input(
                    "scale",
                    options=list(SCALES),
                    default=FITTED,
                    tooltip=f"{FITTED}: every image gets the same area. {TRUE_SCALE}: one scale "
                    "for all, so an image twice as large looks twice as large.",
                ),
                io.String.Input("title", default="", tooltip="Title above the sheet."),
                io.Int.Input(
                    "picture_size",
                    default=256,
                    min=32,
                    max=2048,
                    step=16,
                    tooltip="Side of a square image on the sheet, in pixels; other images get the "
                    "same area.",
                ),
                names("rows"),
                names("columns"),
                FIT_SWEEP.Input(
                    "sweep",
                    optional=True,
                    tooltip="From FiT Sweep Sampler, with the settings of every image, or from FiT "
                    "Resolution Sweep: names the rows and columns.",
                ),
                io.Boolean.Input(
                    "html",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="Also writes a web page with all images and their settings into a new "
                    "folder of output/FiT comparisons. It opens without ComfyUI and without "
                    "internet.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    is_output_list=True,
                    tooltip="The sheet; several where so many images would be too small on one.",
                )
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        images: list[Tensor],
        scale: list[str],
        title: list[str],
        picture_size: list[int],
        rows: list[str],
        columns: list[str],
        sweep: list[Sweep] | None = None,
        html: list[bool] | None = None,
    ) -> io.NodeOutput:
        pictures = [image for batch in images for image in batch]
        of_sweep = sweep[0] if sweep else None
        row_names, column_names, per_row = _layout(
            len(pictures), split_list(rows[0]), split_list(columns[0]), of_sweep
        )
        cells = [_cell(image) for image in pictures]
        sheets = contact_sheets(
            [cells[i : i + per_row] for i in range(0, len(cells), per_row)],
            row_names,
            column_names,
            title=title[0],
            scale=scale[0],
            cell_side=picture_size[0],
        )
        comparison = compared(cls, pictures, row_names, column_names, per_row, of_sweep)
        outputs = [from_bytes(np.asarray(sheet)).movedim(-3, -1)[None] for sheet in sheets]
        shown: Any = [output[0] for output in outputs]  # of different sizes, so no batch
        previews = ui.PreviewImage(shown, cls=cls).as_dict()
        page = _page(comparison, title[0]) if html and html[0] else {}
        return io.NodeOutput(
            outputs, ui={**previews, "fitv2_cells": [comparison.to_json()], **page}
        )


def _page(comparison: Comparison, title: str) -> dict[str, list[str]]:
    """Write the web page, and say where."""
    written = write_page(comparison, title)
    logging.info("FiT Compare Sheet wrote %s into the output folder.", written)
    host.show(f"Page: output/{written}")
    return {"fitv2_html": [written]}


def _cell(image: Tensor) -> SheetCell:
    """An image (H, W, 3 or 4) of the host, with its size as caption."""
    pixels = Image.fromarray(to_bytes(image[..., :3].movedim(-1, -3)))
    return SheetCell(pixels, describe_size(*pixels.size))


def _layout(
    count: int, rows: Sequence[str], columns: Sequence[str], sweep: Sweep | None
) -> tuple[Sequence[str], Sequence[str], int]:
    """Row names, column names and images per row of ``count`` images.

    Names given here replace those of the sweep. Raises ``ValueError`` where there are no images, or
    they do not fill the rows.
    """
    if not count:
        raise ValueError(
            "There are no images to compare. Connect images, or look at why the node before gives "
            "none."
        )
    if sweep is not None:
        if not rows and not columns and len(sweep.cells) != count:
            raise ValueError(
                f"{count} images, but the sweep has {len(sweep.cells)}. Connect the images of FiT "
                "Sweep Sampler, or disconnect the sweep."
            )
        rows, columns = rows or sweep.rows, columns or sweep.columns
    # Names of one of them alone tell how many there are of the other.
    per_row = len(columns) or math.ceil(count / max(len(rows), 1))
    number_of_rows = len(rows) or math.ceil(count / per_row)
    if number_of_rows * per_row != count:
        raise ValueError(
            f"{count} images do not fill {number_of_rows} rows × {per_row} columns = "
            f"{number_of_rows * per_row}. Name as many rows and columns as there are; images go "
            "row by row."
        )
    return rows, columns, per_row

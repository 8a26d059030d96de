"""FiT Compare Sheet: pictures of different sizes, side by side and labelled."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor

from ..comfyui_fitv2.contact_sheet import FITTED, SCALES, SheetCell, contact_sheet
from .sweep import FIT_SWEEP, Sweep


class FiTCompareSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTCompareSheet",
            display_name="FiT Compare Sheet",
            category="FiT",
            description="Pictures of different sizes on one labelled sheet: rows and columns named, size and token count under each.",
            search_aliases=[
                "contact sheet",
                "side by side",
                "xy plot",
                "grid",
                "comparison",
                "image grid",
                "labels",
            ],
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Pictures of any sizes, row by row; batches count as their pictures.",
                ),
                io.Combo.Input(
                    "scale",
                    options=list(SCALES),
                    default=FITTED,
                    tooltip=f"{FITTED}: every picture gets the same area. {SCALES[1]}: all are enlarged alike, so a picture of twice the size looks it.",
                ),
                io.String.Input("title", default="", tooltip="Above the sheet."),
                io.Int.Input(
                    "picture_size",
                    default=256,
                    min=32,
                    max=2048,
                    step=16,
                    tooltip="Pixels a side of a square picture on the sheet; others get its area.",
                ),
                io.String.Input(
                    "rows",
                    default="",
                    multiline=True,
                    tooltip="Names, one a line or semicolons between. Empty: those of the sweep, or none.",
                ),
                io.String.Input(
                    "columns",
                    default="",
                    multiline=True,
                    tooltip="Names, one a line or semicolons between. Empty: those of the sweep, or none.",
                ),
                FIT_SWEEP.Input(
                    "sweep",
                    optional=True,
                    tooltip="From FiT Resolution Sweep: names the rows and columns.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The sheet.")],
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
    ) -> io.NodeOutput:
        pictures = [picture for batch in images for picture in batch]
        places = _places(
            len(pictures), _names(rows[0]), _names(columns[0]), sweep[0] if sweep else None
        )
        cells = [
            SheetCell(_to_pillow(picture), row, column)
            for picture, (row, column) in zip(pictures, places, strict=True)
        ]
        sheet = contact_sheet(cells, title[0], scale[0], cell_side=picture_size[0])
        image = torch.from_numpy(np.asarray(sheet).astype(np.float32) / 255)[None]
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))


def _names(text: str) -> list[str]:
    return [name.strip() for name in re.split(r"[;\n]", text) if name.strip()]


def _places(
    count: int, rows: Sequence[str], columns: Sequence[str], sweep: Sweep | None
) -> list[tuple[str, str]]:
    """A row and a column for each of ``count`` pictures. Raises ``ValueError`` where the names are not for so many."""
    if sweep is not None and not rows and not columns:
        if len(sweep.cells) != count:
            raise ValueError(
                f"{count} pictures, but the sweep has {len(sweep.cells)}. Connect the pictures of FiT Sweep Sampler, or disconnect the sweep."
            )
        return [(cell.row, cell.column) for cell in sweep.cells]
    if sweep is not None:  # names given here take the place of the sweep's
        rows = rows or list(dict.fromkeys(cell.row for cell in sweep.cells))
        columns = columns or list(dict.fromkeys(cell.column for cell in sweep.cells))
    # One list alone says how many there are of the other.
    rows = rows or [""] * (-(-count // len(columns)) if columns else 1)
    unnamed = not columns
    columns = columns or [""] * -(-count // len(rows))
    if len(rows) * len(columns) != count:
        raise ValueError(
            f"{count} pictures do not fill {len(rows)} rows × {len(columns)} columns = {len(rows) * len(columns)}. "
            "Name as many rows and columns as there are; pictures go row by row."
        )
    if unnamed and len(rows) == 1:
        return [(rows[0], "")] * count
    # Unnamed rows and columns are still apart from each other: by spaces, which nobody sees.
    return [
        (row or " " * i, column or " " * j)
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    ]


def _to_pillow(picture: Tensor) -> Image.Image:
    return Image.fromarray(
        (picture[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    )

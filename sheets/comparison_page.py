"""A comparison as one web page beside its images: it needs no server and no internet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

_TEMPLATE = Path(__file__).with_name("comparison_page.html")


@dataclass(frozen=True, slots=True)
class PageCell:
    """An image of a page, in its row and column, counted from 0."""

    row: int
    column: int
    file: str
    """Its path from the page's folder, with slashes."""
    width: int
    height: int
    caption: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def comparison_page(
    title: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[PageCell]
) -> str:
    """The HTML of a page of images in rows and columns, with their captions and settings.

    The page shows all images, enlarges one, and zooms. Names may be empty. Raises ``ValueError``
    without cells, and for one outside of the rows and columns.
    """
    if not cells:
        raise ValueError("A comparison page needs at least one image.")
    places: dict[tuple[int, int], PageCell] = {}
    for cell in cells:
        if cell.row not in range(len(rows)) or cell.column not in range(len(columns)):
            raise ValueError(
                f"An image in row {cell.row} and column {cell.column}, but the page has "
                f"{len(rows)} rows and {len(columns)} columns."
            )
        places[cell.row, cell.column] = cell
    largest = max(cell.width * cell.height for cell in cells) ** 0.5
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = ""
    for row, name in enumerate(rows):
        body += f'<tr><th scope="row">{escape(name)}</th>'
        for column, of_column in enumerate(columns):
            cell = places.get((row, column))
            alt = ", ".join(filter(None, (name, of_column)))
            body += f"<td>{_figure(cell, alt, largest) if cell else ''}</td>"
        body += "</tr>\n"
    count = f"{len(cells)} image" + ("s" if len(cells) > 1 else "")
    page = _TEMPLATE.read_text(encoding="utf-8")
    values = {"title": escape(title), "count": count, "head": head, "body": body}
    before, *parts = page.split("{{")
    for part in parts:
        key, _, after = part.partition("}}")
        before += values[key] + after
    return before


def _figure(cell: PageCell, name: str, largest: float) -> str:
    """An image with its caption and settings; sizes are relative to one of area 1."""
    alt = escape(", ".join(filter(None, (name, cell.caption))))
    fitted = (cell.width * cell.height) ** 0.5
    sizes = {
        "--w": cell.width / fitted,
        "--h": cell.height / fitted,
        "--tw": cell.width / largest,
        "--th": cell.height / largest,
    }
    style = ";".join(f"{key}:{value:.4f}" for key, value in sizes.items())
    settings = "".join(
        f"<dt>{escape(key.replace('_', ' '))}</dt><dd>{escape(_text(value))}</dd>"
        for key, value in cell.settings.items()
    )
    details = f"<details><summary>Settings</summary><dl>{settings}</dl></details>"
    return (
        f'<figure style="{style}"><a href="{quote(cell.file)}">'
        f'<img src="{quote(cell.file)}" alt="{alt}" width="{cell.width}" height="{cell.height}" '
        f'loading="lazy"></a><figcaption>{escape(cell.caption)}'
        f"{details if settings else ''}</figcaption></figure>"
    )


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

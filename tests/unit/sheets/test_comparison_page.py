"""A comparison as a web page: complete without scripts, and safe with any name."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from sheets.comparison_page import PageCell, comparison_page


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def cell(row: int, column: int, **changes) -> PageCell:
    values = {"file": f"images/{row}{column}.png", "width": 96, "height": 64, **changes}
    return PageCell(row, column, caption="96 × 64 px · 24 tokens", **values)


def test_every_image_has_its_text_and_its_settings() -> None:
    settings = {"class": "79 · Finland", "attention_scale": "none", "decoupled": True, "seed": 7}
    cells = [cell(row, column, settings=settings) for row in range(2) for column in range(2)]
    text = comparison_page("Flags", ["ntk", "linear"], ["1:1", "3:2"], cells)
    page = Page(text)
    images = [image for image in page.of("img") if image.get("loading")]
    assert [image["src"] for image in images] == [c.file for c in cells]
    assert [image["alt"] for image in images] == [
        f"{row}, {column}, 96 × 64 px · 24 tokens"
        for row in ("ntk", "linear")
        for column in ("1:1", "3:2")
    ]
    assert page.text.count("79 · Finland") == 4
    assert "attention scale" in page.text
    assert "4 images" in page.text
    assert page.of("html") == [{"lang": "en"}]


def test_a_page_asks_nobody_for_anything() -> None:
    text = comparison_page("T", ["a"], ["b"], [cell(0, 0)])
    assert not re.search(r"https?:|//|@import|url\(", text.split("<script>")[0])
    assert not re.search(r"https?:|fetch|XMLHttpRequest|import\(", text)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\"'&<>", "{{body}}", "</table>"])
def test_names_are_text(name: str) -> None:
    settings = {name: name}
    text = comparison_page(name, [name], [name], [cell(0, 0, settings=settings, file="a#?%.png")])
    plain = comparison_page("t", ["r"], ["c"], [cell(0, 0, settings={"k": "v"})])
    assert [tag for tag, _ in Page(text).tags] == [tag for tag, _ in Page(plain).tags]
    assert name in Page(text).text
    (image,) = (image for image in Page(text).of("img") if image.get("loading"))
    assert unquote(image["src"] or "") == "a#?%.png"
    assert "#" not in (image["src"] or "")


def test_a_place_may_be_empty_and_images_differ_in_size() -> None:
    cells = [cell(0, 0), cell(1, 1, width=192, height=128)]
    page = Page(comparison_page("T", ["a", "b"], ["c", "d"], cells))
    assert len(page.of("figure")) == 2
    assert len(page.of("td")) == 5
    assert "--tw:0.6124" in (page.of("figure")[0]["style"] or "")
    assert "--tw:1.2247" in (page.of("figure")[1]["style"] or "")


@pytest.mark.parametrize("cells", [[], [cell(2, 0)], [cell(0, -1)]])
def test_what_has_no_place_is_refused(cells: list[PageCell]) -> None:
    with pytest.raises(ValueError, match=r"at least one image|but the page has 1 rows"):
        comparison_page("T", ["a"], ["b"], cells)

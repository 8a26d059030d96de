"""What is done with a cell of the compare viewer: saved, copied, used, opened, exported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser.comparisons import METHODS, SIZES, cell, comparison, press, send
from browser.nodes import Node
from browser.pages import Page, in_one_renderer
from PIL import Image
from playwright.sync_api import expect

from devkit.server import Server
from sheets.comparison_page import PageCell, comparison_page

LEAST_SIDE = 96
"""CSS pixels: an exported page shows no square smaller than this when it is opened."""


@in_one_renderer
def test_a_cell_is_saved_and_its_settings_copied(sheet: Node, page: Page, tmp_path: Path):
    cell(sheet, 0, 1).click()
    with page.dom.expect_download() as download:
        sheet.find("button").filter(has_text=re.compile("^Save$")).click()
    assert download.value.suggested_filename == "75 Finland 352x176 none seed 7.png"
    saved = tmp_path / "saved.png"
    download.value.save_as(saved)
    with Image.open(saved) as image:
        assert image.size == (352, 176)
    page.dom.context.grant_permissions(["clipboard-read", "clipboard-write"])
    cell(sheet, 1, 1).click()
    press(page, "c")
    expect(sheet.find(".fitv2-viewer-message")).to_contain_text("clipboard")
    text = page.js("() => navigator.clipboard.readText()")
    assert "extrapolation: linear" in text
    assert "size: 352 × 176 px" in text


@in_one_renderer
def test_an_image_that_cannot_be_fetched_is_said(sheet: Node, page: Page):
    cell(sheet, 0, 1).click()
    page.dom.route("**/view?*", lambda route: route.abort())
    sheet.find("button").filter(has_text=re.compile("^Save$")).click()
    expect(sheet.find(".fitv2-viewer-message")).to_contain_text("Failed to fetch")
    page.dom.unroute("**/view?*")
    page.errors.clear()  # the browser reports it, too


@pytest.mark.newest_frontend
def test_a_cell_is_used_in_the_nodes_before_and_undone(sheet: Node, page: Page):
    before = page.node("FiTSweepSampler").values(), page.node("FiTResolutionSweep").values()
    cell(sheet, 1, 1).click()
    sheet.find("button").filter(has_text="Use this cell").click()
    sampler, sweep = page.node("FiTSweepSampler"), page.node("FiTResolutionSweep")
    used = {"seed": 7, "steps": 5, "solver": "heun", "guidance": 2.5}
    assert {name: sampler.value(name) for name in used} == used
    assert sweep.value("sizes") == "352x176"
    assert sweep.value("methods") == "linear"
    assert sweep.value("classes") == "75 · Finland"
    assert page.node("FiTExtrapolation").value("method") == "linear"
    page.command("Comfy.Undo")
    after = page.node("FiTSweepSampler").values(), page.node("FiTResolutionSweep").values()
    assert after == before
    page.node("FiTCompareSheet").find(".fitv2-viewer-cell img").first.wait_for()


@in_one_renderer
def test_a_seed_that_the_page_would_round_is_used_as_text(sheet: Node, page: Page, comfyui: Server):
    output = comparison(comfyui, METHODS, SIZES)
    seeds = ["18446744073709551615", "18446744073709551614"]
    for each in output["fitv2_cells"][0]["cells"]:
        each["settings"]["seed"] = seeds[each["column"] % 2]
    send(page, sheet, output)
    before = page.node("FiTSweepSampler").value("seed")
    cell(sheet, 1, 1).click()
    expect(sheet.find(".fitv2-viewer-details")).to_contain_text(f"seed{seeds[1]}")
    sheet.find("button").filter(has_text="Use this cell").click()
    assert page.node("FiTResolutionSweep").value("seeds") == seeds[1]
    assert page.node("FiTSweepSampler").value("seed") == before
    sheet.find("button").filter(has_text="Open as graph").click()
    page.wait_for("() => app.graph.nodes.length === 8")
    assert page.node("FiTSampler").value("seed") == 0


def test_a_cell_is_opened_as_a_graph_that_runs(sheet: Node, page: Page):
    cell(sheet, 1, 1).click()
    sheet.find("button").filter(has_text="Open as graph").click()
    page.wait_for("() => app.graph.nodes.length === 8")
    assert page.node("FiTResolution").value("width") == 352
    assert page.node("FiTExtrapolation").value("method") == "linear"
    assert page.node("FiTSampler").value("seed") == 7
    (image,) = page.run().files()
    assert image["type"] == "temp"


@in_one_renderer
def test_names_of_saved_files_are_legal_everywhere(page: Page):
    def name(label: str) -> str:
        return page.js(
            """async label => {
              const { fileNameOf } = await import("/extensions/fitv2/viewer_cells.js");
              const cell = {row: 0, column: 0, filename: "a.png", width: 32, height: 16};
              cell.settings = {class: label, method: "ntk + pro2"};
              return fileNameOf({rows: [], columns: [], cells: [cell]}, cell);
            }""",
            label,
        )

    assert name("75 · Finland") == "75 Finland 32x16 ntk + pro2.png"
    assert name('a/b\\c: "d" <e> | f? *') == "a_b_c_ _d_ _e_ _ f_ _ 32x16 ntk + pro2.png"
    assert name("..hidden. ") == "hidden. 32x16 ntk + pro2.png"
    assert name("Côte d’Ivoire\n") == "Côte d’Ivoire_ 32x16 ntk + pro2.png"
    assert len(name("long " * 99)) <= 124


@in_one_renderer
@pytest.mark.parametrize(("width", "is_whole"), [(1600, True), (1000, True), (412, False)])
def test_an_exported_page_opens_with_all_its_columns_in_view(
    page: Page, tmp_path: Path, width: int, is_whole: bool
):
    sizes = [(256, 256), (304, 208), (352, 176), (432, 144), (208, 304), (144, 432)]
    cells = [PageCell(0, i, f"{i}.png", w, h, f"{w} × {h} px") for i, (w, h) in enumerate(sizes)]
    file = tmp_path / "index.html"
    names = [f"{w}:{h}" for w, h in sizes]
    file.write_text(comparison_page("All", ["Finland"], names, cells), encoding="utf-8")
    browser = page.dom.context.browser
    assert browser is not None
    # A window of its own: beside a tab that was closed, the first one takes no wheel.
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.goto(file.as_uri())
    wide = tab.evaluate("document.documentElement.scrollWidth")
    least = tab.locator("img[loading]").first.evaluate("square => square.width")
    tab.close()
    assert (wide <= width) == is_whole
    assert least >= LEAST_SIDE

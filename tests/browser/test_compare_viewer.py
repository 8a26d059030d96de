"""The compare viewer in FiT Compare Sheet, used with mouse, keyboard and touch."""

from __future__ import annotations

import re

import pytest
from browser.comparisons import METHODS, SIZES, bring_into_view, cell, comparison, press, send
from browser.nodes import Node
from browser.pages import Page, in_one_renderer
from playwright.sync_api import FloatRect, Locator, expect

from devkit.server import Server

FOUR_IMAGES = {
    "id": "5f0c8f0e-7a6e-4f0e-9a53-0d8f5a1f2c11",
    "last_node_id": 2,
    "last_link_id": 1,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "pos": [0, 0],
            "size": [300, 150],
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "widgets_values": [64, 32, 4, 255],
        },
        {
            "id": 2,
            "type": "FiTCompareSheet",
            "pos": [400, 0],
            "size": [700, 600],
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "outputs": [],
            "widgets_values": ["fitted", "", 64, "", "left; right"],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "groups": [],
    "config": {},
    "extra": {},
    "version": 0.4,
}
"""A workflow that makes four images without a model, and compares them."""


def button(page: Page, name: str) -> Locator:
    return page.dom.get_by_role("button", name=name)


def box_of(locator: Locator) -> FloatRect:
    box = locator.bounding_box()
    assert box is not None
    return box


def slow_double_click(page: Page, target: Locator) -> None:
    """Double-click as on a busy machine, where what the first click asks for is drawn between."""
    box, mouse = box_of(target), page.dom.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for count in (1, 2):
        mouse.down(click_count=count)
        mouse.up(click_count=count)
        page.settle()


def shown_size(image: Locator) -> tuple[float, float]:
    box = box_of(image)
    return box["width"], box["height"]


@in_one_renderer
def test_captions_and_details_say_what_differs(sheet: Node, page: Page):
    expect(cell(sheet, 0, 1)).to_contain_text("352 × 176 px")
    expect(cell(sheet, 0, 0)).to_contain_text(re.compile("256 tokens$"))
    expect(cell(sheet, 0, 1)).to_contain_text("242 tokens · 1.38× trained side")
    captions = sheet.find(".fitv2-viewer-measures")
    assert captions.evaluate_all("all => all.every(e => e.scrollWidth <= e.clientWidth)")
    # The class is the same everywhere, and the row's name tells the method.
    expect(cell(sheet, 0, 1)).not_to_contain_text("Finland")
    expect(cell(sheet, 1, 1)).not_to_contain_text("linear")
    expect(sheet.find('[role="rowheader"]').nth(1)).to_have_text("linear")
    details = sheet.find(".fitv2-viewer-details")
    cell(sheet, 1, 2).hover()
    expect(details).to_contain_text("linear · 1:3")
    expect(details).to_contain_text("243 tokens · 0.95× trained tokens · 1.69× trained side")
    cell(sheet, 0, 0).click()
    press(page, "ArrowRight")
    expect(details).to_contain_text("none · 2:1")
    expect(details.locator(".fitv2-viewer-differs dd")).to_have_text(["352 × 176 px", "none"])


@in_one_renderer
def test_fitted_images_have_one_area_and_true_ones_one_scale(sheet: Node, page: Page):
    def sizes() -> list[tuple[float, float]]:
        return [
            shown_size(cell(sheet, 0, column).locator(".fitv2-viewer-frame")) for column in range(3)
        ]

    areas = [width * height for width, height in sizes()]
    assert areas == pytest.approx([areas[0]] * 3, rel=0.02)
    button(page, "One scale for all").click()
    scales = [width / w for (width, _), (w, _) in zip(sizes(), SIZES.values(), strict=True)]
    assert scales == pytest.approx([scales[0]] * 3, rel=0.02)


def test_all_images_zoom_about_one_place_and_move_together(sheet: Node, page: Page):
    cell(sheet, 0, 0).click()
    box = box_of(cell(sheet, 0, 1).locator(".fitv2-viewer-frame"))
    page.dom.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.75)
    page.dom.mouse.wheel(0, -300)
    sheet.find(".fitv2-viewer-zoomed").wait_for()
    for column in range(3):
        frame = box_of(cell(sheet, 1, column).locator(".fitv2-viewer-frame"))
        image = box_of(cell(sheet, 1, column).locator("img"))
        assert image["width"] / frame["width"] == pytest.approx(2, rel=0.02)
        # The place under the pointer stays where it was, in fractions of each image.
        left = (frame["x"] + frame["width"] * 0.25 - image["x"]) / image["width"]
        top = (frame["y"] + frame["height"] * 0.75 - image["y"]) / image["height"]
        assert (left, top) == pytest.approx((0.25, 0.75), abs=0.02)
    before = box_of(cell(sheet, 1, 2).locator("img"))
    box = box_of(cell(sheet, 0, 2).locator(".fitv2-viewer-frame"))
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.drag(middle, (middle[0] - 0.2 * box["width"], middle[1]))
    moved = box_of(cell(sheet, 1, 2).locator("img"))["x"] - before["x"]
    assert moved == pytest.approx(-0.2 * box["width"], rel=0.1)
    expect(cell(sheet, 0, 2)).not_to_have_attribute("data-mark", "A")  # a drag chooses nothing
    press(page, "1")
    for column, size in enumerate(SIZES.values()):
        assert shown_size(cell(sheet, 0, column).locator("img")) == pytest.approx(size, rel=0.01)
    press(page, "0")
    whole = shown_size(cell(sheet, 1, 0).locator(".fitv2-viewer-frame"))
    assert shown_size(cell(sheet, 1, 0).locator("img")) == pytest.approx(whole, rel=0.01)


@in_one_renderer
def test_after_a_drag_a_click_on_a_name_or_a_caption_counts(sheet: Node, page: Page):
    def drag_images() -> None:
        cell(sheet, 0, 0).click()
        press(page, "+", "+")
        box = box_of(cell(sheet, 0, 0).locator(".fitv2-viewer-frame"))
        start = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.drag(start, (start[0] - 30, start[1]))

    drag_images()
    cell(sheet, 1, 1).locator(".fitv2-viewer-caption").click()
    expect(cell(sheet, 1, 1)).to_have_attribute("data-mark", "A")
    drag_images()
    sheet.find('[role="columnheader"]').nth(1).click()
    expect(cell(sheet, 0, 1)).to_have_count(0)


def test_the_wheel_moves_the_canvas_before_a_click_into_the_viewer(sheet: Node, page: Page):
    before = page.js("() => app.canvas.ds.scale")
    cell(sheet, 0, 1).hover()
    page.dom.mouse.wheel(0, -200)
    page.wait_for("before => app.canvas.ds.scale > before", before)
    frame = shown_size(cell(sheet, 0, 1).locator(".fitv2-viewer-frame"))
    assert shown_size(cell(sheet, 0, 1).locator("img")) == pytest.approx(frame, rel=0.01)


@in_one_renderer
def test_rows_and_columns_are_walked_and_hidden(sheet: Node, page: Page):
    cell(sheet, 0, 0).click()
    press(page, "ArrowRight", "ArrowDown")
    expect(cell(sheet, 1, 1)).to_be_focused()
    press(page, "ArrowUp", "ArrowUp")
    expect(sheet.find('[role="columnheader"]').nth(1)).to_be_focused()
    press(page, "Enter")
    expect(sheet.find('[role="columnheader"]').nth(1)).to_be_focused()
    expect(cell(sheet, 0, 1)).to_have_count(0)
    expect(cell(sheet, 0, 2)).to_have_count(1)
    button(page, "Show all rows and columns").click()
    expect(cell(sheet, 0, 1)).to_have_count(1)
    sheet.find('[role="rowheader"]').first.click()
    expect(cell(sheet, 0, 0)).to_have_count(0)
    cell(sheet, 1, 0).click()
    press(page, "u")
    expect(cell(sheet, 0, 0)).to_have_count(1)


def test_two_images_against_each_other(sheet: Node, page: Page):
    modes = [node["mode"] for node in page.workflow()["nodes"]]
    cell(sheet, 0, 0).click()
    cell(sheet, 1, 1).click(modifiers=["Shift"])
    pair = sheet.find(".fitv2-viewer-pair")
    expect(pair).to_have_attribute("data-view", "slider")
    expect(pair).to_contain_text("A 256 × 256 px · none")
    expect(pair).to_contain_text("B 352 × 176 px · linear")
    expect(pair).to_contain_text("B has another shape")
    handle = pair.get_by_role("slider", name="Where A ends")
    box, frame = box_of(handle), box_of(pair.locator(".fitv2-viewer-frame"))
    y = box["y"] + box["height"] / 2
    page.drag((box["x"] + box["width"] / 2, y), (frame["x"] + 0.25 * frame["width"], y))
    expect(handle).to_have_attribute("aria-valuenow", "25")
    handle.focus()
    press(page, "ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", "27")
    press(page, "d")
    expect(pair).to_have_attribute("data-view", "difference")
    press(page, "b")
    expect(pair).to_have_attribute("data-blink", "B")
    expect(pair).to_have_attribute("data-blink", "A")
    press(page, "Shift+ArrowRight", "x")
    expect(pair).to_contain_text("A 144 × 432 px · linear")
    press(page, "o", "ArrowUp")
    expect(pair).to_contain_text("none · 1:3")
    press(page, "Escape")
    expect(cell(sheet, 0, 0)).to_have_attribute("data-mark", "B")
    # None of these keys was a shortcut of the host, such as the one that bypasses a node.
    assert [node["mode"] for node in page.workflow()["nodes"]] == modes


@pytest.mark.newest_frontend
def test_full_screen_by_double_click_and_back(sheet: Node, page: Page):
    slow_double_click(page, cell(sheet, 0, 1))
    dialog = page.dom.locator("dialog.fitv2-viewer-full-screen")
    expect(dialog).to_be_visible()
    assert shown_size(dialog) == (1600, 1000)
    expect(dialog.locator('[data-place="0,1"]')).to_be_focused()
    press(page, "Escape")
    expect(dialog).to_have_count(0)
    expect(cell(sheet, 0, 1)).to_be_visible()
    expect(cell(sheet, 0, 1)).to_be_focused()


def test_the_host_shows_no_second_preview(sheet: Node, page: Page):
    output = {"images": [{"filename": "cell_0_0_256x256.png", "subfolder": "", "type": "temp"}]}
    saver = page.node("SaveImage")
    page.js(
        """([ids, output]) => {
          for (const node of ids) app.api.dispatchCustomEvent("executed",
            {node, display_node: node, output, prompt_id: "made"});
          const saver = app.graph.getNodeById(ids[1]);
          if (saver.flags.collapsed) saver.collapse();
        }""",
        [[str(sheet.id), str(saver.id)], output],
    )
    page.show(scale=0.5)  # both are in the window, so both are drawn
    page.wait_for("id => app.graph.getNodeById(id).imgs?.length", saver.id)
    page.settle()
    assert not page.js("id => app.graph.getNodeById(id).imgs?.length", sheet.id)
    expect(page.dom.locator(f'[data-node-id="{sheet.id}"] .image-preview')).to_have_count(0)


@pytest.mark.newest_frontend
def test_a_run_is_shown_again_after_a_refresh(page: Page):
    page.load(FOUR_IMAGES)
    page.run()
    expect(page.node("FiTCompareSheet").find("[role=gridcell]")).to_have_count(4)
    page.refresh()
    again = page.node("FiTCompareSheet")
    bring_into_view(page, again)
    expect(again.find("[role=gridcell]")).to_have_count(4)
    expect(again.find('[role="columnheader"]')).to_have_text(["left", "right"])
    page.wait_for(  # a missing file is an error in the console
        """() => {
          const images = [...document.querySelectorAll(".fitv2-viewer-cell img")];
          return images.length === 4 && images.every(image => image.complete);
        }"""
    )


def test_what_was_chosen_is_kept_over_a_refresh(page: Page):
    page.load(FOUR_IMAGES)
    node = page.node("FiTCompareSheet")
    bring_into_view(page, node)
    page.run()
    cell(node, 0, 1).click()
    cell(node, 1, 1).click(modifiers=["Shift"])
    press(page, "Escape")
    node.find('[role="columnheader"]').first.click()
    expect(node.find("[role=gridcell]")).to_have_count(2)
    page.refresh()
    again = page.node("FiTCompareSheet")
    bring_into_view(page, again)
    expect(again.find("[role=gridcell]")).to_have_count(2)
    expect(cell(again, 0, 1)).to_have_attribute("data-mark", "A")
    expect(cell(again, 1, 1)).to_have_attribute("data-mark", "B")
    button(page, "Show all rows and columns").click()
    expect(again.find("[role=gridcell]")).to_have_count(4)


@in_one_renderer
def test_images_fit_again_after_they_were_measured_without_a_height(sheet: Node, page: Page):
    frame = cell(sheet, 1, 1).locator(".fitv2-viewer-frame")
    true_scale = button(page, "One scale for all")
    true_scale.click()
    before = shown_size(frame)
    true_scale.click()
    page.js(
        """() => {
          const body = document.querySelector(".fitv2-viewer-body");
          body.style.flex = "0 0 60px";
          document.querySelector("button[aria-label^='One scale']").click();
          body.style.flex = "";
        }""",
    )
    page.settle()
    assert shown_size(frame) == pytest.approx(before, rel=0.01)


@in_one_renderer
def test_four_hundred_cells_are_paged_by_rows_and_walked(page: Page, sheet: Node, comfyui: Server):
    rows = [f"seed {i}" for i in range(41)]
    send(page, sheet, comparison(comfyui, rows, {f"c{i}": (32, 32) for i in range(20)}))
    expect(sheet.find("[role=gridcell]")).to_have_count(400)
    expect(sheet.find(".fitv2-viewer-pager")).to_contain_text("1 of 3")
    cell(sheet, 0, 0).click()
    press(page, "PageDown")
    expect(sheet.find(".fitv2-viewer-pager")).to_contain_text("2 of 3")
    expect(sheet.find('[role="rowheader"]').first).to_have_text("seed 20")


@in_one_renderer
def test_long_names_of_low_rows_are_shown_whole(page: Page, sheet: Node, comfyui: Server):
    rows = [f"{i} · a name that is rather long, as ImageNet has · seed {i}" for i in range(41)]
    send(page, sheet, comparison(comfyui, rows, {"1:1": (32, 32)}))
    cell(sheet, 0, 0).dblclick()
    names = page.dom.locator(".fitv2-viewer-full-screen [role=rowheader]")
    expect(names).to_have_count(41)
    assert names.evaluate_all("all => all.every(e => e.scrollHeight <= e.clientHeight)")
    press(page, "Escape")


@in_one_renderer
def test_touch_chooses_two_images_on_a_phone(page: Page, sheet: Node):
    page.dom.set_viewport_size({"width": 412, "height": 860})
    sheet.find("button[title^='Full screen']").dispatch_event("click")
    dialog = page.dom.locator("dialog.fitv2-viewer-full-screen")
    expect(dialog).to_be_visible()
    assert page.js("() => document.querySelector('dialog .fitv2-viewer').scrollWidth") <= 412
    dialog.locator('[data-place="0,0"]').click()
    dialog.locator("button", has_text="Choose B").click()
    expect(dialog.get_by_role("status")).to_contain_text("Click the image")
    dialog.locator('[data-place="1,0"]').click()
    expect(dialog.locator(".fitv2-viewer-pair")).to_have_attribute("data-view", "slider")


@in_one_renderer
def test_images_that_are_gone_say_so(page: Page, sheet: Node, comfyui: Server):
    output = comparison(comfyui, METHODS, SIZES)
    for each in output["fitv2_cells"][0]["cells"]:
        each["filename"] = f"gone_{each['filename']}"
    send(page, sheet, output)
    expect(cell(sheet, 0, 0)).to_have_class(re.compile("fitv2-viewer-gone"))
    page.errors.clear()  # a missing file is an error in the console

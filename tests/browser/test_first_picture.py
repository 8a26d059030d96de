"""From an empty canvas to the right picture, without typing a class or a number."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from browser.pages import RUN_MS, Page, in_one_renderer
from PIL import Image
from playwright.sync_api import CDPSession, FileChooser, Locator, expect

from comfyui_fitv2 import Resolution, for_ratio
from devkit.environment import ROOT
from sheets import class_sheet

STARTER = ROOT / "workflows" / "1 One flag, any shape.json"
CHECKPOINT = ROOT / "models" / "fit" / "fitv2_flags256.safetensors"
PHONE: Any = {"width": 412, "height": 860}
TRAINED = 256
TABS = 80
"""More than there are places that Tab stops at."""
THUMBNAIL = (24, 16)
"""Width and height at which pictures are compared."""


def test_by_mouse(page: Page) -> None:
    page.dom.get_by_role("button", name="Templates", exact=True).click()
    page.dom.get_by_text("FiTv2: images of any shape").first.click()
    page.dom.get_by_test_id(f"template-workflow-{STARTER.stem}").click()
    label = page.node("FiTClassLabel")
    expect(label.find(".fitv2-class-chip")).to_have_text(["Finland×"])
    page.settle()  # the view moves until all nodes fit
    label.find(".fitv2-class-open").click()
    tile(page, "Ukraine").click()  # it is scrolled to
    size = page.node("FiTResolution")
    size.find("button[aria-label='2:1']").click()
    expect(label.find(".fitv2-class-chip")).to_have_text(["Ukraine×"])
    image = picture(page, page.dom.get_by_test_id("queue-button").first.click)

    assert image.size == pixels(for_ratio("2:1", TRAINED))
    assert class_of(page, image) == "Ukraine"


def test_by_keyboard(page: Page) -> None:
    page.js(
        """() => {
          window.pressed = [];
          for (const kind of ["mousedown", "pointerdown", "touchstart"])
            addEventListener(kind, event => pressed.push(event.type), true);
        }"""
    )
    # The cards of Templates cannot be reached by keyboard; a file can be opened.
    choose_file(page, STARTER)
    page.expect_nodes("FiTResolution", 1)

    tab_to(page, ".fitv2-class-open")
    page.dom.keyboard.press("Enter")
    expect(dialog(page)).to_be_visible()
    page.dom.keyboard.press("ArrowDown")  # from the search to the images
    for _ in range(TABS):
        if active_class(page).startswith("Austria"):
            break
        page.dom.keyboard.press("ArrowLeft")  # the one before; Finland is chosen
    page.dom.keyboard.press("Enter")
    expect(dialog(page)).to_have_count(0)
    tab_to(page, ".fitv2-chip[aria-label='16:9']")
    page.dom.keyboard.press("Enter")
    image = picture(page, lambda: page.dom.keyboard.press("Control+Enter"))

    assert image.size == pixels(for_ratio("16:9", TRAINED))
    assert class_of(page, image) == "Austria"
    assert page.js("() => window.pressed") == []


@in_one_renderer
def test_on_a_phone_in_app_mode(page: Page) -> None:
    page.load(STARTER)
    page.dom.get_by_role("button", name="Enter app mode").click()
    page.dom.set_viewport_size(PHONE)
    finger = page.dom.context.new_cdp_session(page.dom)
    finger.send("Emulation.setTouchEmulationEnabled", {"enabled": True})

    tap(finger, page.dom.get_by_role("tab", name="Edit & Run"))
    tap(finger, page.dom.get_by_role("button", name="Classes…"))
    tap(finger, tile(page, "Gabon"))
    expect(page.dom.locator(".fitv2-class-chip:visible")).to_have_text(["Gabon×"])
    tap(finger, page.dom.locator("button[aria-label='1:1']:visible"))
    run = page.dom.get_by_role("button", name="Run", exact=True)
    image = picture(page, lambda: tap(finger, run))

    assert image.size == pixels(for_ratio("1:1", TRAINED))
    assert class_of(page, image) == "Gabon"


def tap(finger: CDPSession, target: Locator) -> None:
    """Touch an element, without a mouse."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    assert box is not None
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def choose_file(page: Page, file: Path) -> None:
    """Open a file by Ctrl+O, pressed again until the browser asks for one.

    Chromium opens no file chooser for a key that was handled seconds later, on a busy machine.
    """
    choosers: list[FileChooser] = []

    def keep(chooser: FileChooser) -> None:
        choosers.append(chooser)

    page.dom.on("filechooser", keep)
    for _ in range(20):
        page.dom.keyboard.press("Control+o")
        page.dom.wait_for_timeout(500)
        if choosers:
            break
    page.dom.remove_listener("filechooser", keep)
    choosers[0].set_files(file)


def dialog(page: Page) -> Locator:
    return page.dom.get_by_role("dialog", name="Choose classes")


def tile(page: Page, name: str) -> Locator:
    """The image of a class in the dialog, which draws those alone that are in view."""
    option = dialog(page).get_by_role("option", name=re.compile(rf"^{name}\s*\d+$"))
    grid = dialog(page).get_by_role("listbox")
    expect(grid.get_by_role("option").first).to_be_visible()
    for _ in range(60):
        if option.count():
            break
        grid.hover()
        page.dom.mouse.wheel(0, 300)
        page.settle()
    return option


def active_class(page: Page) -> str:
    """The name that a screen reader says while the arrow keys move."""
    return page.js(
        """() => document.getElementById(
          document.activeElement.getAttribute("aria-activedescendant"))?.innerText ?? "" """
    )


def tab_to(page: Page, selector: str) -> None:
    expect(page.dom.locator(selector)).to_be_enabled()
    for _ in range(TABS):
        page.dom.keyboard.press("Tab")
        if page.js("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def picture(page: Page, run: Callable[[], None]) -> Image.Image:
    """What Save Image saves of a run that a person starts."""
    with page.dom.expect_response(lambda answer: answer.url.endswith("/prompt")) as answer:
        run()
    id = answer.value.json()["prompt_id"]
    page.wait_for("id => window.endedRuns[id]", id, RUN_MS)
    (file,) = page.client.wait(id).outputs[str(page.node("SaveImage").id)]["images"]
    return Image.open(io.BytesIO(page.client.fetch(file))).convert("RGB")


def pixels(size: Resolution) -> tuple[int, int]:
    return size.width, size.height


def class_of(page: Page, image: Image.Image) -> str:
    """The class whose thumbnail is closest to an image."""
    sheet = class_sheet.read(class_sheet.sheet_path(CHECKPOINT))
    layout = sheet.layout
    whole = Image.open(io.BytesIO(sheet.image)).convert("RGB")

    def distance(number: int) -> float:
        row, column = divmod(number, layout.columns)
        x, y = column * layout.tile_width, row * layout.tile_height
        part = whole.crop((x, y, x + layout.tile_width, y + layout.tile_height))
        one, other = (
            np.asarray(i.resize(THUMBNAIL, Image.Resampling.BOX), dtype=float)
            for i in (image, part)
        )
        return float(np.abs(one - other).mean())

    model = page.client.get(f"/fitv2/model?checkpoint={CHECKPOINT.name}")
    return model["classes"][min(range(layout.classes), key=distance)]["name"]

"""The widgets speak the language of the page."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from browser.nodes import Node
from browser.pages import Page, in_one_renderer
from playwright.sync_api import expect

ENGLISH = re.compile(r"[A-Za-z]{3,}")
NAMES = re.compile(
    r"fitv2_flags256\.safetensors|Czech Republic|Finland|Shift|Ctrl|Enter|Esc|Page (Up|Down)|token"
    r"|Load Image|Alt|linear|none|decoupled|ab2"
)
"""Names of files, classes, keys and choices stay as they are."""
ALL_TEXTS = """element => {
  const texts = [];
  for (const e of [element, ...element.querySelectorAll("*")]) {
    for (const name of ["title", "aria-label", "placeholder", "aria-valuetext"])
      texts.push(e.getAttribute(name) ?? "");
    for (const child of e.childNodes)
      if (child.nodeType === Node.TEXT_NODE && e.checkVisibility()) texts.push(child.data);
  }
  return texts;
}"""


@pytest.fixture
def chinese(page: Page) -> Iterator[Page]:
    """The page in Chinese; later ones are in English again."""
    speak(page, "zh")
    yield page
    speak(page, "en")


def speak(page: Page, language: str) -> None:
    """Start the page again in a language; a change while it runs loads all nodes again."""
    page.client.post("/settings", {"Comfy.Locale": language})
    page.reload()
    page.wait_for("() => app.graph.nodes.length")
    page.clear()


def english(node: Node, selector: str) -> list[str]:
    """What an element of a node says in English."""
    texts = node.find(selector).first.evaluate(ALL_TEXTS)
    return [text for text in texts if ENGLISH.search(NAMES.sub("", text))]


def test_the_pad_and_the_picker_say_nothing_in_english(chinese: Page) -> None:
    chinese.load("1 One flag, any shape")
    label = chinese.node("FiTClassLabel")
    expect(label.find(".fitv2-class-chip")).to_have_text(["Finland×"])
    expect(label.find(".fitv2-class-open")).to_have_text("类别…")
    assert english(label, ".fitv2-class-picker") == []
    pad = chinese.node("FiTResolution")
    expect(pad.find(".fitv2-facts")).to_contain_text("19 × 13 = 247 token")
    assert english(pad, ".fitv2-pad") == []


@in_one_renderer
def test_the_viewer_and_the_dialog_say_nothing_in_english(chinese: Page) -> None:
    chinese.load("5 Seven aspect ratios compared")
    chinese.node("FiTSweepSampler").set("steps", 1)
    sheet = chinese.node("FiTCompareSheet")
    chinese.run()
    expect(sheet.find(".fitv2-viewer-cell")).to_have_count(7)
    assert english(sheet, ".fitv2-viewer-place") == []
    chinese.node("FiTResolutionSweep").find(".fitv2-class-open").click()
    dialog = chinese.dom.locator(".fitv2-class-dialog")
    expect(dialog).to_be_visible()
    for part in ("head", "search", "foot"):
        texts = dialog.locator(f".fitv2-class-dialog-{part}").evaluate(ALL_TEXTS)
        assert [text for text in texts if ENGLISH.search(NAMES.sub("", text))] == []

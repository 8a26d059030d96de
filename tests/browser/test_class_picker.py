"""Classes are chosen, mixed and corrected without knowing what to type."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from browser.nodes import Node
from browser.pages import Page, in_one_renderer
from playwright.sync_api import Locator, Route, expect
from support.graph import BUNDLED

from comfyui_fitv2 import FiT, FiTConfig, Metadata, save_checkpoint
from devkit.server import Server
from sheets import class_sheet

MANY = "thousand_classes.safetensors"
PHONE: Any = {"width": 412, "height": 860}
FINGER = 40
"""What can be hit with a finger has at least this many CSS pixels."""
CLICK_MS = 60
"""A person's button is down for about this many milliseconds, and as long up in a double-click."""


@pytest.fixture(scope="session")
def thousand_classes(comfyui: Server) -> str:
    """A small model with 1,000 classes; the last has other names too."""
    torch.manual_seed(0)
    config = FiTConfig(hidden_size=96, depth=1, num_heads=4, num_classes=1000, adaln_lora_dim=24)
    names = [f"class {i}" for i in range(999)] + ["Éclair"]
    synonyms = [[] for _ in range(999)] + [["long cake"]]
    file = comfyui.base / "models" / "fit" / MANY
    save_checkpoint(
        file, FiT(config).state_dict(), Metadata(config, names, class_synonyms=synonyms)
    )
    return MANY


def graph(page: Page, text: str, checkpoint: str = BUNDLED) -> Node:
    """A loader and a FiT Class Label with this text; returns the label."""
    slot = {"name": "model", "type": "MODEL", "link": 1}
    loader = {
        **{"id": 1, "type": "FiTLoader", "pos": [100, 200], "size": [300, 120], "mode": 0},
        "outputs": [{"name": "MODEL", "type": "MODEL", "links": [1]}],
        "widgets_values": [checkpoint, "auto", "auto"],
    }
    label = {
        **{"id": 2, "type": "FiTClassLabel", "pos": [500, 200], "size": [300, 120], "mode": 0},
        **{"inputs": [slot], "widgets_values": [text]},
    }
    nodes = [
        {"flags": {}, "order": i, "properties": {}, **n} for i, n in enumerate((loader, label))
    ]
    page.load(
        {
            **{"nodes": nodes, "links": [[1, 1, 0, 2, 0, "MODEL"]], "groups": [], "version": 0.4},
            **{"last_node_id": 2, "last_link_id": 1, "config": {}, "extra": {}},
        }
    )
    page.show((0, 0), 1)
    return page.node("FiTClassLabel")


def chips(node: Node) -> Locator:
    return node.find(".fitv2-class-chip")


def open_dialog(node: Node) -> Locator:
    node.find(".fitv2-class-open").click()
    return shown_dialog(node.page)


def shown_dialog(page: Page) -> Locator:
    """The dialog, once it is there: it opens when ComfyUI has told the classes."""
    dialog = page.dom.get_by_role("dialog", name="Choose classes")
    dialog.wait_for()
    return dialog


def tile(dialog: Locator, name: str) -> Locator:
    return dialog.get_by_role("option", name=re.compile(rf"^{name}\s*\d+$"))


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.dom.keyboard.press(key)


def expect_text(node: Node, text: str) -> None:
    node.page.wait_for(
        "([id, text]) => app.graph.getNodeById(id).widgets[0].value === text", [node.id, text]
    )


def text_field(node: Node, clicks: int = 1) -> Locator:
    """The field of the text widget, opened as a person does, with the focus in it."""
    page = node.page
    if page.renderer == "nodes2":
        field = page.dom.locator(f'[data-node-id="{node.id}"]').get_by_label("text", exact=True)
        field.click(click_count=clicks, delay=CLICK_MS)
        expect(field).to_be_focused()
        return field
    x, y = page.js(
        """id => {
          const node = app.graph.getNodeById(id);
          const [x, y] = node.pos;
          return app.canvasPosToClientPos([x + 150, y + node.widgets[0].y + 10]);
        }""",
        node.id,
    )
    page.dom.mouse.click(x, y, click_count=clicks, delay=CLICK_MS)
    field = page.dom.locator(".graphdialog .value")
    expect(field).to_be_focused()
    return field


def test_chips_show_how_the_text_is_read_and_remove_an_entry(page: Page) -> None:
    node = graph(page, "finland; 110; 0.75*France + 0.25*Italy")

    expect(chips(node)).to_have_text(["Finland×", "Italy×", "France 75 % + Italy 25 %×"])
    node.find("[aria-label='Remove Italy']").click()

    expect_text(node, "finland; 0.75*France + 0.25*Italy")
    expect(chips(node)).to_have_count(2)


@pytest.mark.newest_frontend
def test_a_class_is_chosen_by_mouse_and_undone_in_one_step(page: Page) -> None:
    node = graph(page, "Finland")
    expect(chips(node)).to_have_text(["Finland×"])

    dialog = open_dialog(node)
    expect(tile(dialog, "Finland")).to_have_attribute("aria-selected", "true")
    tile(dialog, "Fiji").click()

    expect(dialog).to_have_count(0)
    expect_text(node, "Fiji")
    expect(chips(node)).to_have_text(["Fiji×"])
    page.command("Comfy.Undo")
    expect_text(page.node("FiTClassLabel"), "Finland")


@pytest.mark.newest_frontend
def test_a_class_is_chosen_by_keyboard_and_the_focus_returns(page: Page) -> None:
    node = graph(page, "Finland")
    button = node.find(".fitv2-class-open")
    expect(button).to_be_enabled()

    button.focus()
    press(page, "Enter")
    shown_dialog(page)
    page.dom.keyboard.type("cote d")
    expect(page.dom.get_by_role("option").first).to_contain_text("Côte d'Ivoire")
    press(page, "Enter")

    expect_text(node, "Côte d'Ivoire")
    expect(button).to_be_focused()
    press(page, "Enter")
    shown_dialog(page)
    press(page, "ArrowDown", "Home", "ArrowRight")
    active = page.dom.locator(
        "#"
        + str(
            page.dom.get_by_role("listbox", name="Classes").get_attribute("aria-activedescendant")
        )
    )
    expect(active).to_contain_text("Albania")
    press(page, "Escape")
    expect(page.dom.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    expect_text(node, "Côte d'Ivoire")


def test_several_classes_keep_the_order_in_which_they_were_chosen(page: Page) -> None:
    node = graph(page, "Finland")
    dialog = open_dialog(node)

    dialog.get_by_role("radio", name="Several").click()
    search = dialog.get_by_label("Search classes")
    for name in ("Japan", "Brazil"):
        search.fill(name)
        search.press("Enter")
    search.fill("fin")
    search.press("Enter")  # it was chosen: now it is not
    dialog.get_by_role("button", name="Use").click()

    expect_text(node, "Japan; Brazil")
    dialog = open_dialog(node)
    dialog.get_by_role("button", name="Random 6").click()
    press(page, "Control+Enter")
    expect(chips(node)).to_have_count(6)


def test_a_blend_is_made_and_changed_with_sliders(page: Page) -> None:
    node = graph(page, "France; Italy")
    dialog = open_dialog(node)

    dialog.get_by_role("radio", name="Blend").click()
    dialog.get_by_role("button", name="Use").click()
    expect_text(node, "France + Italy")
    expect(chips(node)).to_have_count(1)

    node.find(".fitv2-class-chip-face").click()
    weight = dialog.get_by_label("Weight of France")
    weight.focus()
    press(page, "End")
    dialog.get_by_label("Weight of Italy").fill("25")
    expect(dialog.locator("output")).to_have_text(["80 %", "20 %"])
    press(page, "Control+Enter")
    expect_text(node, "0.8*France + 0.2*Italy")
    expect(chips(node)).to_have_text(["France 80 % + Italy 20 %×"])


def test_a_click_while_the_classes_are_read_opens_the_dialog_later(page: Page) -> None:
    held: list[Route] = []
    page.dom.route("**/fitv2/**", lambda route: held.append(route))
    node = graph(page, "Finland")
    node.find(".fitv2-class-open").click()
    page.settle()
    for route in held:
        route.continue_()
    page.dom.unroute("**/fitv2/**")
    shown_dialog(page)


def test_a_blend_of_very_many_classes_has_weights(page: Page) -> None:
    node = graph(page, "; ".join(map(str, range(201))))
    dialog = open_dialog(node)
    dialog.get_by_role("radio", name="Blend").click()
    expect(dialog.locator("output").first).to_have_text("0 %")  # rounded
    press(page, "Control+Enter")
    page.wait_for("id => app.graph.getNodeById(id).widgets[0].value.includes('+')", node.id)
    assert "NaN" not in node.value("text")
    expect(node.find(".fitv2-class-wrong")).to_have_count(0)


def test_what_no_class_has_is_red_before_run_and_mended_by_a_click(page: Page) -> None:
    node = graph(page, "Finland; Frnce")

    expect(node.find(".fitv2-class-chip.fitv2-class-wrong")).to_have_text(["Frnce×"])
    node.find(".fitv2-class-offer").get_by_text("France", exact=True).click()

    expect_text(node, "Finland; France")
    expect(node.find(".fitv2-class-wrong")).to_have_count(0)


@pytest.mark.newest_frontend
def test_names_are_completed_while_they_are_typed(page: Page) -> None:
    node = graph(page, "Finland")
    expect(chips(node)).to_have_count(1)
    field = text_field(node)

    press(page, "Control+a")
    page.dom.keyboard.type("Frnce; ger")
    offers = page.dom.locator(".fitv2-class-completion")
    expect(offers.get_by_role("option").first).to_contain_text("Germany")
    press(page, "ArrowDown", "Enter")
    expect(field).to_have_value("Frnce; Germany")
    offers.get_by_role("button", name="France").click()
    expect(field).to_have_value("France; Germany")
    press(page, "Enter")

    expect_text(node, "France; Germany")
    page.dom.mouse.click(1300, 700)
    expect(offers).to_have_count(0)
    expect(chips(node)).to_have_text(["France×", "Germany×"])


def test_names_are_completed_after_a_double_click_until_enter(page: Page) -> None:
    node = graph(page, "Finland")
    expect(chips(node)).to_have_count(1)
    text_field(node, clicks=2)

    press(page, "Control+a")
    page.dom.keyboard.type("France + Ital")
    offers = page.dom.locator(".fitv2-class-completion")
    expect(offers.get_by_role("option")).to_have_text(["Italy110"])
    press(page, "Enter")
    expect(offers.get_by_role("option")).not_to_be_visible()
    expect_text(node, "France + Ital")


def test_chips_scroll_until_the_node_is_made_larger(page: Page) -> None:
    node = graph(page, "Finland")
    expect(chips(node)).to_have_count(1)
    before = node.box()["height"]
    node.set("text", "Finland; Italy; Japan; Brazil; Sweden; France; Spain; Germany; Frnce")
    expect(chips(node)).to_have_count(9)
    assert node.box()["height"] == before

    hidden = "e => e.scrollHeight - e.clientHeight"
    shown = node.find(".fitv2-class-chips")
    assert shown.evaluate(hidden) > 0
    page.js("id => { const n = app.graph.getNodeById(id); n.setSize([n.size[0], 560]); }", node.id)
    page.js("() => app.canvas.setDirty(true, true)")
    page.wait_for(f"() => !({hidden})(document.querySelector('.fitv2-class-chips'))")


def test_without_a_model_it_is_said_and_the_names_stay(page: Page) -> None:
    node = graph(page, "Finland")
    expect(chips(node)).to_have_text(["Finland×"])

    page.js("id => app.graph.getNodeById(id).disconnectInput(0)", node.id)
    expect(node.find(".fitv2-class-picker-note")).to_contain_text("Connect a model")
    expect(node.find(".fitv2-class-picker-note")).to_contain_text(BUNDLED)
    node.set("text", "Spain")
    expect(chips(node)).to_have_text(["Spain×"])
    page.clear()
    alone = page.add("FiT Class Label")
    expect(alone.find(".fitv2-class-picker-note")).to_contain_text("Connect a model")
    expect(alone.find(".fitv2-class-open")).to_be_disabled()


def test_the_checkpoint_of_the_loader_decides_the_classes(
    page: Page, thousand_classes: str
) -> None:
    node = graph(page, "Finland")
    expect(chips(node)).to_have_text(["Finland×"])

    page.node("FiTLoader").set("checkpoint", thousand_classes)
    page.command("Comfy.Canvas.ResetView")
    dialog = open_dialog(node)
    expect(dialog.get_by_role("status")).to_have_text("1,000 classes")


@pytest.mark.newest_frontend
def test_a_thousand_classes_are_searched_and_walked_through(
    page: Page, thousand_classes: str
) -> None:
    node = graph(page, "class 1", thousand_classes)
    expect(chips(node)).to_have_text(["class 1×"])
    dialog = open_dialog(node)

    expect(dialog.get_by_role("option").first).to_be_visible()
    assert dialog.get_by_role("option").count() < 200  # only those in view are made
    page.dom.keyboard.type("CAKE")
    expect(dialog.get_by_role("option")).to_have_text(["Éclair999"])
    press(page, "Escape", "ArrowDown", "End")
    expect(dialog.locator(".fitv2-class-active")).to_have_text("Éclair999")
    expect(dialog.locator(".fitv2-class-active")).to_be_in_viewport()
    expect(dialog.locator(".fitv2-class-active")).to_have_attribute("aria-posinset", "1000")
    press(page, "7")
    expect(dialog.get_by_role("option").first).to_have_text("class 77")
    press(page, "Enter")
    expect_text(node, "class 7")
    dialog = open_dialog(node)
    expect(dialog.get_by_role("group", name="Recently used")).to_contain_text("class 7")


@pytest.mark.newest_frontend
def test_other_names_in_a_file_are_seen_after_the_r_key_and_after_a_run(
    page: Page, comfyui: Server
) -> None:
    file = comfyui.base / "models" / "fit" / "renamed.safetensors"
    config = FiTConfig(hidden_size=96, depth=1, num_heads=4, num_classes=2, adaln_lora_dim=24)

    def save(*names: str) -> None:
        save_checkpoint(file, FiT(config).state_dict(), Metadata(config, list(names)))

    save("cat", "dog")
    node = graph(page, "0", file.name)
    expect(chips(node)).to_have_text(["cat×"])
    save("lion", "wolf")
    page.command("Comfy.RefreshNodeDefinitions")
    expect(chips(node)).to_have_text(["lion×"])
    save("tiger", "fox")
    page.js(
        """() => app.api.dispatchCustomEvent("execution_success",
          {prompt_id: "made", timestamp: 0})"""
    )
    expect(chips(node)).to_have_text(["tiger×"])


def test_the_choice_survives_refresh_copying_and_a_subgraph(page: Page) -> None:
    node = graph(page, "Finland; Italy")
    expect(chips(node)).to_have_text(["Finland×", "Italy×"])

    page.select(*page.nodes())
    page.key("Control+c")
    page.key("Control+v")
    for each in page.expect_nodes("FiTClassLabel", 2):
        expect(chips(each)).to_have_text(["Finland×", "Italy×"])
    page.refresh()
    for each in page.expect_nodes("FiTClassLabel", 2):
        expect(chips(each)).to_have_text(["Finland×", "Italy×"])
    # Stored is the text alone.
    for stored in page.workflow()["nodes"]:
        if stored["type"] == "FiTClassLabel":
            assert stored["widgets_values"] == ["Finland; Italy"]
    assert all("class_picker" not in node["inputs"] for node in page.prompt().values())


def test_a_label_in_a_subgraph_knows_the_model_outside(page: Page) -> None:
    node = graph(page, "Finland; Frnce")
    page.select(node)
    page.command("Comfy.Graph.ConvertToSubgraph")
    page.js(
        """() => {
          const outer = app.graph.nodes.find(node => node.isSubgraphNode?.());
          app.canvas.setGraph(outer.subgraph);
        }"""
    )
    page.show((300, 200))
    face = page.dom.locator(".fitv2-class-chip")
    expect(face).to_have_text(["Finland×", "Frnce×"])
    expect(page.dom.locator(".fitv2-class-chip.fitv2-class-wrong")).to_have_text(["Frnce×"])


def test_thumbnails_come_from_the_class_sheet(page: Page, bundled_checkpoint: Path) -> None:
    layout = class_sheet.read(class_sheet.sheet_path(bundled_checkpoint)).layout
    node = graph(page, "Finland")

    dialog = open_dialog(node)
    picture = tile(dialog, "Fiji").locator(".fitv2-class-tile-picture")
    expect(picture).to_have_attribute("style", re.compile(r'background-image: url\("blob:'))
    place = picture.evaluate("({style}) => style.backgroundPosition")
    row, column = divmod(74, layout.columns)
    rows = math.ceil(layout.classes / layout.columns)
    percents = [float(part.strip("%")) for part in place.split()]
    assert percents == pytest.approx(
        [100 * column / (layout.columns - 1), 100 * row / (rows - 1)], abs=1e-3
    )
    expect(chips(node).locator(".fitv2-class-face")).to_have_count(1)


@in_one_renderer
def test_on_a_phone_the_dialog_fills_the_page_and_is_made_for_fingers(page: Page) -> None:
    session = page.dom.context.new_cdp_session(page.dom)
    session.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.dom.set_viewport_size(PHONE)
    node = graph(page, "Finland")
    page.show((-420, -100))

    dialog = open_dialog(node)

    box = dialog.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (PHONE["width"], PHONE["height"])
    for control in dialog.locator("button:visible, input:visible, .fitv2-class-tile:visible").all():
        size = control.bounding_box()
        assert size is not None
        assert size["height"] >= FINGER, control.inner_text()
        assert size["x"] + size["width"] <= PHONE["width"]
    assert page.js("() => document.documentElement.scrollWidth") <= PHONE["width"]


@in_one_renderer
def test_app_mode_shows_the_picker_of_a_workflow_that_asks_for_it(page: Page) -> None:
    graph(page, "Finland")
    workflow = page.workflow()
    workflow["extra"] = {
        "linearMode": True,
        "linearData": {"inputs": [["2", "class_picker"]], "outputs": ["2"]},
    }
    page.js("async workflow => { await app.loadGraphData(workflow); }", workflow)

    shown = page.dom.get_by_test_id("app-mode-widget-item")
    shown.get_by_role("button", name="Classes…").click()
    tile(page.dom.get_by_role("dialog", name="Choose classes"), "Fiji").click()
    expect(shown.locator(".fitv2-class-chip")).to_have_text(["Fiji×"])
    expect_text(page.node("FiTClassLabel"), "Fiji")

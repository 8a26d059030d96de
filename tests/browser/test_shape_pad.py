"""The shape pad of FiT Resolution, by mouse and by keyboard."""

from __future__ import annotations

import re
from typing import Any

import pytest
from browser.nodes import Node
from browser.pages import Page
from playwright.sync_api import expect
from support.image_files import draw_bar

from comfyui_fitv2 import Resolution, for_ratio
from devkit.server import Server

CORNER = ".fitv2-stage-corner"
TOKEN = 16
TRAINED = 256
SQUARE = "256 × 256 px · 16 × 16 = 256 tokens · 1.00×"
TYPED = {
    "3:2": {"aspect_ratio": "3:2"},
    "2.2 : 1": {"aspect_ratio": "custom ratio", "custom_ratio": "2.2:1"},
    "300x200": {"aspect_ratio": "exact size", "width": 304, "height": 192},
    "16：9": {"aspect_ratio": "16:9"},
    "5:2 @ 576": {"aspect_ratio": "custom ratio", "custom_ratio": "5:2", "tokens": 576},
}


@pytest.fixture
def pad(page: Page) -> Node:
    """A FiT Resolution with a FiT Loader before it."""
    nodes = [
        saved("FiTLoader", 1, (40, 80), [], ["fitv2_flags256.safetensors", "auto", "auto"]),
        saved("FiTResolution", 2, (420, 80), [("model", "MODEL", 1)], ["1:1", 256, 256, 256, 1]),
    ]
    page.load(workflow(nodes, [[1, 1, 0, 2, 0, "MODEL"]]))
    node = page.node("FiTResolution")
    expect_facts(node, SQUARE)
    return node


def saved(
    kind: str, id: int, place: tuple[int, int], inputs: list[tuple[str, str, int]], values: Any
) -> dict[str, Any]:
    return {
        "id": id,
        "type": kind,
        "pos": list(place),
        "size": [320, 200],
        "flags": {},
        "order": id,
        "mode": 0,
        "inputs": [{"name": name, "type": type, "link": link} for name, type, link in inputs],
        "outputs": [{"name": "MODEL", "type": "MODEL", "links": []}] if "Loader" in kind else [],
        "properties": {},
        "widgets_values": values,
    }


def workflow(nodes: list[dict[str, Any]], links: list[list[Any]]) -> dict[str, Any]:
    for link in links:
        source = next(node for node in nodes if node["id"] == link[1])
        source["outputs"][link[2]]["links"].append(link[0])
    return {
        "last_node_id": 99,
        "last_link_id": 99,
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": 1, "offset": [0, 0]}},
        "version": 0.4,
    }


def expect_facts(node: Node, text: str) -> None:
    node.find(".fitv2-facts").get_by_text(text, exact=True).wait_for()


def facts_of(size: Resolution) -> str:
    """The line of facts of a size, as FiT Resolution would report it."""
    rows, columns = size.grid
    times = size.length_ratio(TRAINED)
    return f"{size} · {columns} × {rows} = {size.tokens} tokens · {times:.2f}×"


def size_of(node: Node) -> tuple[Any, Any, Any]:
    values = node.values()
    return values["aspect_ratio"], values["width"], values["height"]


def press(node: Node, name: str) -> None:
    node.find("button").and_(node.page.dom.get_by_role("button", name=name, exact=True)).click()
    node.page.settle()


def middle(node: Node, selector: str = CORNER) -> tuple[float, float]:
    box = node.find(selector).first.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def pull(node: Node, x: float, y: float, key: str | None = None) -> None:
    """Drag the corner by CSS pixels of the window, with a key held."""
    start = middle(node)
    if key:
        node.page.dom.keyboard.down(key)
    node.page.drag(start, (start[0] + x, start[1] + y))
    if key:
        node.page.dom.keyboard.up(key)


@pytest.mark.newest_frontend
def test_a_corner_that_is_dragged_sets_an_exact_size(page: Page, pad: Node) -> None:
    pull(pad, 60, 20)
    ratio, width, height = size_of(pad)
    assert ratio == "exact size"
    assert width > 256
    assert height > 256
    assert width % TOKEN == height % TOKEN == 0
    expect_facts(pad, facts_of(Resolution(width, height)))


def test_a_drag_is_one_step_of_undo_and_escape_takes_it_back(page: Page, pad: Node) -> None:
    pull(pad, 60, 20)
    assert size_of(pad)[0] == "exact size"
    page.command("Comfy.Undo")
    pad = page.node("FiTResolution")
    assert size_of(pad) == ("1:1", 256, 256)
    expect_facts(pad, SQUARE)

    pad.set("aspect_ratio", "exact size")
    x, y = middle(pad)
    page.dom.mouse.move(x, y)
    page.dom.mouse.down()
    page.dom.mouse.move(x + 50, y + 10, steps=4)
    assert size_of(pad)[1] > 256
    page.dom.keyboard.press("Escape")
    page.dom.mouse.up()
    page.settle()
    assert size_of(pad)[1:] == (256, 256)


def test_escape_brings_a_ratio_back(page: Page, pad: Node) -> None:
    x, y = middle(pad)
    page.dom.mouse.move(x, y)
    page.dom.mouse.down()
    page.dom.mouse.move(x + 50, y + 10, steps=4)
    assert size_of(pad)[0] == "exact size"
    page.dom.keyboard.press("Escape")
    page.dom.mouse.up()
    page.settle()
    assert size_of(pad) == ("1:1", 256, 256)
    expect_facts(pad, SQUARE)


def test_shift_keeps_the_ratio_and_alt_the_tokens(page: Page, pad: Node) -> None:
    press(pad, "2:1")
    expect_facts(pad, "352 × 176 px · 22 × 11 = 242 tokens · 0.95×")
    pull(pad, 30, 0, "Shift")
    _, width, height = size_of(pad)
    assert width > 352
    assert width / height == pytest.approx(2, abs=0.15)

    press(pad, "1:1")
    expect_facts(pad, SQUARE)
    pull(pad, 60, -20, "Alt")
    _, width, height = size_of(pad)
    columns, rows = width // TOKEN, height // TOKEN
    assert columns > 16
    assert rows == TRAINED // columns


def test_a_drag_follows_the_mouse_at_any_zoom(page: Page, pad: Node) -> None:
    for zoom in (0.5, 1.7):
        pad.set("aspect_ratio", "1:1")
        expect_facts(pad, SQUARE)
        page.show(scale=zoom)
        pull(pad, 40 * zoom, 0)
        assert size_of(pad)[1] == pytest.approx(256 + 40 / token_pixels(pad) * TOKEN, abs=TOKEN)
        assert size_of(pad)[2] == 256


def token_pixels(node: Node) -> float:
    """CSS pixels of a token in the drawing, without the zoom of the canvas."""
    path = node.find(".fitv2-stage-square").get_attribute("d") or ""
    left, right = float(path[1:].split()[0]), float(path.split("H")[1].split("V")[0])
    return (right - left) / 16


@pytest.mark.newest_frontend
def test_arrow_keys_move_the_corner(page: Page, pad: Node) -> None:
    pad.find(CORNER).focus()
    for key, expected in (
        ("ArrowRight", (272, 256)),
        ("ArrowUp", (272, 240)),
        ("ArrowLeft", (256, 240)),
        ("ArrowDown", (256, 256)),
        ("PageDown", (320, 320)),
        ("Home", (256, 256)),
        ("Shift+ArrowRight", (272, 272)),
        ("Home", (256, 256)),
        ("Alt+ArrowRight", (272, 240)),
    ):
        page.key(key)
        assert size_of(pad)[1:] == expected, key
    assert pad.find(CORNER).evaluate("corner => corner === document.activeElement")
    assert page.node("FiTResolution").id == pad.id, "keys of the pad reached the canvas"


def test_every_control_is_reached_by_tab_and_has_a_name(page: Page, pad: Node) -> None:
    pad.find(CORNER).focus()
    names = []
    for _ in range(11):
        names.append(
            page.js(
                "() => document.activeElement.ariaLabel"
                " ?? document.activeElement.getAttribute('aria-label')"
            )
        )
        ring = page.js("() => getComputedStyle(document.activeElement).outlineStyle")
        assert ring != "none", names[-1]
        page.dom.keyboard.press("Tab")
    assert names[:7] == [
        "Width and height", "1:1", "3:2", "16:9", "2:1", "3:1", "Swap width and height",
    ]  # fmt: skip
    assert names[7:] == [
        "Ratio or size",
        "1 × the trained side",
        "1.5 × the trained side",
        "2 × the trained side",
    ]


def test_chips_set_ratios_and_are_drawn_as_python_draws_them(page: Page, pad: Node) -> None:
    for ratio in ("3:2", "16:9", "2:1", "3:1"):
        press(pad, ratio)
        assert pad.value("aspect_ratio") == ratio
        expect_facts(pad, facts_of(for_ratio(ratio, TRAINED)))
        pressed = pad.find('button[aria-pressed="true"]').first
        expect(pressed).to_have_attribute("aria-label", ratio)


def test_swap_turns_a_ratio_and_an_exact_size(page: Page, pad: Node) -> None:
    press(pad, "16:9")
    press(pad, "Swap width and height")
    assert pad.value("aspect_ratio") == "9:16"
    pad.set("aspect_ratio", "exact size")
    pad.set("width", 320)
    press(pad, "Swap width and height")
    assert size_of(pad) == ("exact size", 256, 320)


def test_a_multiple_of_the_trained_side_sets_tokens_or_scales(page: Page, pad: Node) -> None:
    pad.set("tokens", 100)
    for factor, tokens in (("1", 256), ("1.5", 576), ("2", 1024)):
        press(pad, f"{factor} × the trained side")
        assert pad.value("tokens") == tokens
    pad.set("aspect_ratio", "exact size")
    pad.set("width", 512)
    press(pad, "2 × the trained side")
    expected = for_ratio("2:1", 1024)
    expect_facts(pad, facts_of(expected))
    assert size_of(pad) == ("exact size", expected.width, expected.height)


def test_a_typed_ratio_or_size_is_taken(page: Page, pad: Node) -> None:
    field = pad.find(".fitv2-typed")
    for typed, expected in TYPED.items():
        field.fill(typed)
        field.press("Enter")
        page.wait_for(
            "([id, ratio]) => app.graph.getNodeById(id).widgets[0].value === ratio",
            [pad.id, expected["aspect_ratio"]],
        )
        assert {name: pad.value(name) for name in expected} == expected


def test_a_typed_text_that_is_no_ratio_says_so(page: Page, pad: Node) -> None:
    field = pad.find(".fitv2-typed")
    field.fill("wide")
    field.press("Enter")
    pad.find(".fitv2-facts").get_by_text("'wide' is not a size").wait_for()
    expect(field).to_have_attribute("aria-invalid", "true")
    assert pad.value("aspect_ratio") == "1:1"


@pytest.mark.parametrize("ratio", ["", "3:2 @ 576", "320x208"])
def test_a_custom_ratio_that_the_node_refuses_is_refused_by_the_pad(
    page: Page, pad: Node, ratio: str
) -> None:
    pad.set("aspect_ratio", "custom ratio")
    pad.set("custom_ratio", ratio)
    pad.find(".fitv2-facts").get_by_text(f"'{ratio}' is not an aspect ratio").wait_for()


def test_the_longest_message_pushes_no_control_out_of_the_pad(page: Page, pad: Node) -> None:
    field = pad.find(".fitv2-typed")
    field.fill("a ratio that is far too long to be one, and a size that is none")
    field.press("Enter")
    pad.find(".fitv2-facts").get_by_text("is not a size").wait_for()
    page.settle()
    facts, above, whole = (
        pad.find(selector).first.bounding_box()
        for selector in (".fitv2-facts", ".fitv2-typed", ".fitv2-pad")
    )
    assert facts
    assert above
    assert whole
    assert facts["y"] + facts["height"] <= above["y"]
    assert above["y"] + above["height"] <= whole["y"] + whole["height"]


def test_every_control_is_whole_in_the_narrowest_node(page: Page, pad: Node) -> None:
    page.js(
        """id => {
          const node = app.graph.getNodeById(id);
          node.setSize([node.computeSize()[0], node.size[1]]);
          app.canvas.setDirty(true, true);
        }""",
        pad.id,
    )
    page.settle()
    rows = pad.find(".fitv2-row")
    assert rows.evaluate_all("rows => rows.map(row => row.scrollWidth - row.clientWidth)") == [0, 0]


@pytest.mark.parametrize(
    "size", [(864, 576), (256, 1600), (2048, 2048)], ids=["wide", "tall", "square"]
)
def test_the_note_is_not_covered_by_the_image(page: Page, pad: Node, size: tuple[int, int]) -> None:
    for name, value in zip(("aspect_ratio", "width", "height"), ("exact size", *size), strict=True):
        pad.set(name, value)
    expect_facts(pad, facts_of(Resolution(*size)))
    note, corner = (pad.find(s).bounding_box() for s in (".fitv2-stage-note", CORNER))
    assert note
    assert corner
    assert corner["y"] + corner["height"] <= note["y"]


def test_the_colour_says_how_far_it_is_from_the_training(page: Page, pad: Node) -> None:
    pad.set("aspect_ratio", "exact size")
    for width, height, level in (
        (336, 192, "within"),
        (512, 112, "beyond"),
        (272, 272, "beyond"),
        (768, 768, "far"),
    ):
        pad.set("width", width)
        pad.set("height", height)
        expect_facts(pad, facts_of(Resolution(width, height)))
        expect(pad.find(".fitv2-facts")).to_have_attribute("data-level", level)


def test_values_from_elsewhere_are_drawn(page: Page, pad: Node) -> None:
    page.js("id => { app.graph.getNodeById(id).widgets[1].value = 1024; }", pad.id)
    expect_facts(pad, "512 × 512 px · 32 × 32 = 1024 tokens · 4.00×")
    press(pad, "3:1")
    pad.set("tokens", 2)
    expect_facts(pad, "2 tokens are too few for 3:1: it needs 3 or more.")
    pad.set("aspect_ratio", "exact size")
    page.js("id => { app.graph.getNodeById(id).widgets[2].value = 264; }", pad.id)
    expect_facts(pad, SQUARE)  # Python rounds it to the even number of tokens


def test_the_pad_is_in_no_prompt_and_no_workflow(page: Page, pad: Node) -> None:
    prompt = page.prompt()[str(pad.id)]
    assert set(prompt["inputs"]) == {
        "aspect_ratio", "tokens", "width", "height", "batch_size", "model", "custom_ratio",
    }  # fmt: skip
    (node,) = (n for n in page.workflow()["nodes"] if n["type"] == "FiTResolution")
    assert node["widgets_values"][:6] == ["1:1", 256, 256, 256, 1, "2.39:1"]
    assert "shape" not in str(node["widgets_values"])


def test_a_linked_input_locks_the_pad(page: Page, pad: Node) -> None:
    page.js(
        """id => {
          const number = LiteGraph.createNode("PrimitiveInt");
          app.graph.add(number);
          const pad = app.graph.getNodeById(id);
          number.connect(0, pad, pad.inputs.findIndex(input => input.name === "tokens"));
        }""",
        pad.id,
    )
    expect_facts(pad, "Set by a link: tokens")
    expect(pad.find(".fitv2-chip").first).to_be_disabled()
    expect(pad.find(CORNER)).to_be_hidden()


def test_without_a_model_it_assumes_the_published_size(page: Page) -> None:
    node = page.add("FiT Resolution")
    expect_facts(node, SQUARE)
    facts = node.find(".fitv2-facts")
    expect(facts).to_have_attribute("title", re.compile("No model is connected."))


def test_the_image_of_a_load_image_gives_its_ratio(page: Page, pad: Node, comfyui: Server) -> None:
    expect(pad.find("button").last).to_be_disabled()
    draw_bar(comfyui.base / "input" / "wide.png", (1280, 800), (200, 0, 0))
    page.js(
        """() => {
          const image = LiteGraph.createNode("LoadImage");
          image.pos = [40, 400];
          app.graph.add(image);
          image.widgets.find(widget => widget.name === "image").value = "wide.png";
          app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState();
        }"""
    )
    press(pad, "The ratio of wide.png")
    page.wait_for("id => app.graph.getNodeById(id).widgets[0].value === '16:10'", pad.id)
    expect_facts(pad, facts_of(for_ratio("16:10", TRAINED)))

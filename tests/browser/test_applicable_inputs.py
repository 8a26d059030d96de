"""Inputs that have no effect are not shown, and keep their values."""

from __future__ import annotations

import pytest
from browser.nodes import Node
from browser.pages import Page
from playwright.sync_api import expect

from comfyui_fitv2 import SOLVERS

# Widgets that a person sees: on the canvas those that it arranges, in Nodes 2.0 those in the DOM.
_SHOWN = {
    "classic": "node => node.widgets.filter(w => node.isWidgetVisible(w)).map(w => w.name)",
    # Frontends before 1.42 mark rows with the class alone, the newest with the test id alone.
    "nodes2": """node => [...new Set([...document.querySelectorAll(
        `[data-node-id='${node.id}'] :is([data-testid=node-widget], .lg-node-widget)`)]
        .map(row => node.widgets.find(w => row.innerText.split("\\n")[0] === w.name)?.name)
        .filter(Boolean))]""",
}


def expect_shown(node: Node, names: set[str]) -> None:
    """Wait until these inputs with widgets are shown, and no others."""
    node.page.wait_for(
        f"([id, names]) => {{ const shown = ({_SHOWN[node.page.renderer]})"
        "(app.graph.getNodeById(id)).filter(name => name !== 'shape');"
        " return shown.length === names.length && names.every(name => shown.includes(name)); }",
        [node.id, sorted(names)],
    )


@pytest.mark.newest_frontend
def test_a_resolution_shows_what_its_choice_uses(page: Page) -> None:
    node = page.add("FiT Resolution")
    both = {"aspect_ratio", "batch_size"}
    node.set("tokens", 200)
    for choice, shown in (
        ("3:2", {"tokens"}),
        ("custom ratio", {"tokens", "custom_ratio"}),
        ("exact size", {"width", "height"}),
        ("1:1", {"tokens"}),
    ):
        node.set("aspect_ratio", choice)
        expect_shown(node, both | shown)
    assert node.value("tokens") == 200

    node.set("aspect_ratio", "exact size")
    page.js("id => app.graph.getNodeById(id).setSize([340, 700])", node.id)
    page.load(page.workflow())
    expect_shown(page.node("FiTResolution"), both | {"width", "height"})
    assert page.node("FiTResolution").value("tokens") == 200


def test_an_input_that_is_linked_stays(page: Page) -> None:
    node = page.add("FiT Resolution")
    page.js(
        """id => {
          const node = app.graph.getNodeById(id);
          const number = LiteGraph.createNode("PrimitiveInt");
          app.graph.add(number);
          number.connect(0, node, node.inputs.findIndex(input => input.name === "width"));
        }""",
        node.id,
    )
    expect_shown(node, {"aspect_ratio", "tokens", "batch_size", "width"})


@pytest.mark.newest_frontend
def test_a_solver_shows_its_own_options(page: Page) -> None:
    node = page.add("FiT Solver")
    inputs = set(node.values())
    for name in ("dopri5", "sde-heun", "euler"):
        node.set("solver", name)
        expect_shown(node, {"solver", *SOLVERS[name].options} & inputs)
    sent = page.prompt()[str(node.id)]["inputs"]
    assert set(sent) == inputs  # hidden ones are sent too, as without JavaScript


def test_a_scheduler_asks_for_a_latent_when_it_needs_one(page: Page) -> None:
    node = page.add("FiT Scheduler")
    reminder = node.find(".fitv2-reminder")
    expect(reminder).to_be_hidden()
    node.set("schedule", "resolution-shifted")
    reminder.wait_for()
    expect(reminder).to_have_text("Connect the latent: its size sets the shift.")
    latent = page.add("FiT Resolution", 0, 400)
    page.connect(latent, "LATENT", node, "latent")
    reminder.wait_for(state="hidden")

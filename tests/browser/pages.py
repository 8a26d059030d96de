"""ComfyUI in a browser, as tests speak of it: a ``Page`` with ``Node``s (nodes.py) on it.

Both look the same on the classic canvas and in Nodes 2.0. For what is missing here, ``page.dom`` is
playwright's page, and ``page.js`` runs JavaScript with the frontend's ``app``.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from browser.nodes import Node
from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    FloatRect,
    Locator,
    ViewportSize,
    expect,
)
from playwright.sync_api import Page as Dom
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from devkit.client import Client, Run
from devkit.environment import ROOT
from devkit.other_hosts import OLDER_HOST

Renderer = Literal["classic", "nodes2"]

in_one_renderer = pytest.mark.parametrize("renderer", ["classic"], indirect=True)
"""For what does not depend on where a widget is."""

START_MS = 60_000
WAIT_MS = 20_000
"""For what takes a moment; tests run on busy machines."""
RUN_MS = 180_000

# Errors of the host's own that no pack can help, each with its reason.
HOST_ERRORS = (
    # The frontend looks for a style sheet of the user beside its own files before in his folder.
    "/user.css",
    # Older frontends have no icon.
    "/favicon.ico",
    # The workflow that the frontend opens first names models on this site; we open another.
    "https://huggingface.co/Comfy-Org/",
    # Printed by the frontend's own start.
    "ComfyApp graph accessed before initialization",
)

_FOLLOW_RUNS = """() => {
  window.endedRuns = {};
  for (const end of ["execution_success", "execution_error", "execution_interrupted"])
    app.api.addEventListener(end, event => { endedRuns[event.detail.prompt_id] = end; });
}"""
_FORGET = """async () => {
  const { workflow, toast } = app.extensionManager;
  for (const open of [...workflow.openWorkflows])
    if (!workflow.isActive(open)) await workflow.closeWorkflow(open);
  (toast.removeAll ?? toast.dismissAll)();
  localStorage.clear();
  sessionStorage.clear();
}"""
# Frontends keep drafts at different places, as JSON in JSON.
_IS_KEPT = """() => {
  const values = nodes => JSON.stringify(
    nodes.map(node => [node.id, node.widgets_values, node.properties]));
  const now = values(app.graph.serialize().nodes);
  const holds = value => {
    if (typeof value === "string")
      try { value = JSON.parse(value); } catch { return false; }
    if (value === null || typeof value !== "object") return false;
    return Array.isArray(value.nodes)
      ? values(value.nodes) === now
      : Object.values(value).some(holds);
  };
  return [localStorage, sessionStorage].some(storage => Object.values(storage).some(holds));
}"""
_ADD = """title => {
  const types = Object.entries(LiteGraph.registered_node_types);
  const [type] = types.find(([, node]) => node.title === title);
  app.graph.add(LiteGraph.createNode(type));
}"""
_EMPTY = {"nodes": [], "links": [], "groups": [], "config": {}, "extra": {}, "version": 0.4}


class Page:
    """One tab with ComfyUI in it."""

    def __init__(self, dom: Dom, client: Client, renderer: Renderer) -> None:
        self.dom = dom
        self.client = client
        self.renderer: Renderer = renderer
        self.errors: list[str] = []
        """Errors in the console and uncaught ones, without the host's own."""
        dom.on("console", self._on_console)
        dom.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))

    @classmethod
    def open(cls, context: BrowserContext, client: Client, renderer: Renderer) -> Page:
        """A new tab with an empty canvas."""
        page = cls(context.new_page(), client, renderer)
        page.dom.goto(client.url, wait_until="domcontentloaded")
        page._wait_until_ready()
        # The frontend opens a workflow by itself, which may be an empty draft of another tab.
        page.dom.wait_for_function(
            "app.graph.nodes.length || app.extensionManager.workflow.activeWorkflow",
            timeout=START_MS,
        )
        page.clear()
        page.js(_FORGET)
        return page

    def second_tab(self) -> Page:
        """Another tab of the same browser, with an empty canvas."""
        return Page.open(self.dom.context, self.client, self.renderer)

    def reset(self, window: ViewportSize) -> None:
        """Come back to an empty canvas and to nothing else that can be seen or undone."""
        for other in self.dom.context.pages:
            if other is not self.dom:
                other.close()
        self.client.post("/queue", {"clear": True})
        self.client.interrupt()
        self.dom.set_viewport_size(window)
        self.dom.keyboard.press("Escape")
        self.dom.mouse.move(window["width"] / 2, window["height"] / 2)
        self.clear()
        self.js(_FORGET)
        self.errors.clear()

    def refresh(self) -> None:
        """Reload the page, as F5 does, once the frontend has kept a draft of the canvas."""
        self.keep_draft()
        self.reload()

    def keep_draft(self) -> None:
        """Wait until the frontend has kept a draft of the canvas."""
        self.wait_for(_IS_KEPT)

    def reload(self) -> None:
        """Reload the page at once, as F5 does."""
        self.dom.reload(wait_until="domcontentloaded")
        self._wait_until_ready()
        self.wait_for("() => app.api.socket?.readyState === WebSocket.OPEN")

    # What is on the canvas.

    def clear(self) -> None:
        self.load(_EMPTY)

    def load(self, workflow: str | Path | dict[str, Any]) -> None:
        """Open a workflow: a name in workflows/, a file, or the JSON itself."""
        if isinstance(workflow, str):
            workflow = ROOT / "workflows" / f"{workflow}.json"
        if isinstance(workflow, Path):
            workflow = json.loads(workflow.read_text(encoding="utf-8"))
        assert isinstance(workflow, dict)
        self.js("async workflow => { await app.loadGraphData(workflow); }", workflow)
        count = len(workflow["nodes"])
        self.wait_for("count => app.graph.nodes.length === count", count)
        if self.renderer == "nodes2":
            self.wait_for(
                "() => app.graph.nodes.every(node =>"
                " document.querySelector(`[data-node-id='${node.id}']`))"
            )
        self.settle()

    def nodes(self, kind: str | None = None) -> list[Node]:
        """The nodes on the canvas, or those of one type."""
        found = self.js("() => app.graph.nodes.map(node => [node.id, node.type])")
        return [Node(self, id) for id, type in found if kind in (None, type)]

    def node(self, kind: str) -> Node:
        """The only node of a type, such as "FiTResolution", once it is there."""
        (node,) = self.expect_nodes(kind, 1)
        return node

    def expect_nodes(self, kind: str, count: int) -> list[Node]:
        """The nodes of a type, once there are so many."""
        with contextlib.suppress(PlaywrightTimeout):
            self.wait_for(
                "([kind, n]) => app.graph.nodes.filter(node => node.type === kind).length === n",
                [kind, count],
            )
        nodes = self.nodes(kind)
        assert len(nodes) == count, f"expected {count} {kind}, found {len(nodes)}"
        return nodes

    def groups(self) -> dict[str, FloatRect]:
        """Where each group is in the window, by its title, in CSS pixels."""
        return self.js(
            """() => Object.fromEntries(app.graph.groups.map(group => {
              const [x, y] = app.canvasPosToClientPos(group.pos);
              const [width, height] = group.size.map(side => side * app.canvas.ds.scale);
              return [group.title, {x, y, width, height}];
            }))"""
        )

    def show(self, offset: tuple[float, float] | None = None, scale: float | None = None) -> None:
        """Move and scale the canvas, as a person does with the mouse.

        It is drawn anew: until then, what JavaScript put into nodes stays where it was, and a first
        click would move it away from under the second.
        """
        self.js(
            """([offset, scale]) => {
              if (offset) app.canvas.ds.offset = offset;
              if (scale) app.canvas.ds.scale = scale;
              app.canvas.setDirty(true, true);
            }""",
            [offset, scale],
        )
        self.settle()

    def scale(self) -> float:
        """How large the canvas is shown; 1 is life-size."""
        return self.js("() => app.canvas.ds.scale")

    def add(self, title: str, x: float = 0, y: float = 0) -> Node:
        """Add a node as a person does: double-click, type its title, Enter. (x, y) is its place."""
        before = {node.id for node in self.nodes()}
        self.show((300, 200), 1)
        if OLDER_HOST in os.environ:  # the search of older frontends is another one
            self.js(_ADD, title)
        else:
            search = self._search_box()
            search.fill(title)
            expect(self.dom.locator("[role=option]").first).to_contain_text(title)
            search.press("Enter")
        self.wait_for("count => app.graph.nodes.length > count", len(before))
        (new,) = (node for node in self.nodes() if node.id not in before)
        assert new.title == title, f"the search found {new.title} for {title}"
        new.move(x, y)
        return new

    def connect(self, source: Node, output: str, target: Node, name: str) -> None:
        """Drag a link from an output to an input, both by name."""
        start, end = source.slot(output, "output"), target.slot(name, "input")
        self.drag(start, end)
        self.wait_for(
            """([id, name]) => app.graph.getNodeById(id).inputs.find(i => i.name === name)
            .link != null""",
            [target.id, name],
        )

    def select(self, *nodes: Node) -> None:
        ids = [node.id for node in nodes]
        self.js(
            "ids => app.canvas.selectItems(ids.map(id => app.graph.getNodeById(id)))",
            ids,
        )

    def selected(self) -> list[Node]:
        """The nodes that are selected."""
        ids = self.js("() => Object.values(app.canvas.selected_nodes).map(node => node.id)")
        return [Node(self, id) for id in ids]

    def command(self, name: str) -> None:
        """Run a command of the frontend, such as "Comfy.Undo"."""
        self.js("async name => { await app.extensionManager.command.execute(name); }", name)
        self.settle()

    def key(self, keys: str) -> None:
        """Press keys on the canvas, such as "Control+c"."""
        self.dom.keyboard.press(keys)
        self.settle()

    # What it makes.

    def run(self) -> Run:
        """Press Run and wait for the end. Raises ``PromptError`` if a node fails."""
        prompt_id = self.queue()
        self.wait_for("id => window.endedRuns[id]", prompt_id, RUN_MS)
        self.settle()
        result = self.client.wait(prompt_id)
        return result

    def queue(self) -> str:
        """Press Run; returns the prompt's id."""
        button = self.dom.get_by_test_id("queue-button").first
        with self.dom.expect_response(lambda answer: answer.url.endswith("/prompt")) as answer:
            button.click()
        return answer.value.json()["prompt_id"]

    def prompt(self) -> dict[str, Any]:
        """The prompt that Run would send, in API format."""
        return self.js("async () => (await app.graphToPrompt()).output")

    def workflow(self) -> dict[str, Any]:
        """The workflow as the editor would save it."""
        return self.js("() => app.graph.serialize()")

    # How it looks.

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the mouse at a point of the window, move, and let go at another."""
        self.dom.mouse.move(*start)
        self.dom.mouse.down()
        self.dom.mouse.move(*((a + b) / 2 for a, b in zip(start, end, strict=True)))
        self.dom.mouse.move(*end, steps=4)
        self.dom.mouse.up()
        self.settle()

    def toasts(self) -> list[str]:
        """The texts of the messages in the corner."""
        return self.dom.locator(".p-toast-message, [data-testid=toast]").all_inner_texts()

    def settle(self) -> None:
        """Wait until two frames have been drawn."""
        self.js(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def screenshot(self, file: Path) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.dom.screenshot(path=file)
        return file

    def js(self, code: str, argument: Any = None) -> Any:
        """The result of a JavaScript function; ``app`` and ``LiteGraph`` are there."""
        return self.dom.evaluate(code, argument)

    def wait_for(self, code: str, argument: Any = None, timeout_ms: float = WAIT_MS) -> None:
        """Wait until a JavaScript function returns something true."""
        self.dom.wait_for_function(code, arg=argument, timeout=timeout_ms)

    def _wait_until_ready(self) -> None:
        self.dom.wait_for_function(
            "window.app?.vueAppReady && window.app.extensionManager"
            " && document.querySelector('[data-testid=queue-button]')",
            timeout=START_MS,
        )
        self.js(_FOLLOW_RUNS)

    def _search_box(self) -> Locator:
        """The field that a double-click on the canvas opens."""
        search = self.dom.locator("input[role=combobox], .comfy-vue-node-search-container input")
        for _ in range(5):  # on a busy machine the canvas takes some double-clicks for two clicks
            self.dom.locator("#graph-canvas").dblclick(position={"x": 1300, "y": 700})
            with contextlib.suppress(PlaywrightTimeout):
                search.last.wait_for(timeout=1500)
                return search.last
        raise AssertionError("double-clicks on the canvas did not open the node search")

    def _on_console(self, message: ConsoleMessage) -> None:
        text = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(known in text for known in HOST_ERRORS):
            self.errors.append(text)

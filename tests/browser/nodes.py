"""A node on the canvas of a ``Page``, as tests speak of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from playwright.sync_api import FloatRect, Locator

if TYPE_CHECKING:
    from browser.pages import Page


@dataclass(frozen=True)
class Node:
    """A node on the canvas of a page."""

    page: Page
    id: int | str

    @property
    def title(self) -> str:
        return self._js("node => node.title")

    @property
    def kind(self) -> str:
        return self._js("node => node.type")

    def is_collapsed(self) -> bool:
        """Whether only its title is shown."""
        return self._js("node => Boolean(node.flags?.collapsed)")

    def values(self) -> dict[str, Any]:
        """The values of all widgets by name."""
        return dict(self._js("node => (node.widgets ?? []).map(w => [w.name, w.value])"))

    def value(self, name: str) -> Any:
        """The value of a widget, as Run would send it."""
        values = self.values()
        assert name in values, f"{self.kind} has the widgets {', '.join(values)}, not {name}"
        return values[name]

    def set(self, name: str, value: Any) -> None:
        """Give a widget a value, as the frontend does once it was typed."""
        self.value(name)
        self._js(
            """(node, [name, value]) => {
              const widget = node.widgets.find(widget => widget.name === name);
              widget.value = value;
              widget.callback?.(value, app.canvas, node);
              node.setDirtyCanvas(true, true);
            }""",
            [name, value],
        )
        self.page.settle()

    def find(self, selector: str) -> Locator:
        """Elements of this node by CSS selector, in the DOM widgets that JavaScript added to it.

        In Nodes 2.0 the whole node is in the DOM: there its labels and fields are found too.
        """
        self._js(
            """node => {
              for (const widget of node.widgets ?? [])
                widget.element?.setAttribute?.("data-of-node", node.id);
            }"""
        )
        node = f':is([data-of-node="{self.id}"], [data-node-id="{self.id}"])'
        return self.page.dom.locator(f"{node} :is({selector}), :is({selector}){node}")

    def box(self) -> FloatRect:
        """Where the node is on the page with its title: x, y, width and height in CSS pixels."""
        if self.page.renderer == "nodes2":
            box = self.page.dom.locator(f'[data-node-id="{self.id}"]').bounding_box()
            assert box is not None, f"node {self.id} is not in the DOM"
            return box
        return self._js(
            """node => {
              const [x, y] = app.canvasPosToClientPos([node.boundingRect[0], node.boundingRect[1]]);
              const scale = app.canvas.ds.scale;
              const [, , width, height] = node.boundingRect;
              return {x, y, width: width * scale, height: height * scale};
            }"""
        )

    def picture_sizes(self) -> list[list[int]]:
        """Width and height of each picture that the node shows, in its own pixels.

        Waits until they are loaded.
        """
        shown = (
            f'[...document.querySelectorAll(\'[data-node-id="{self.id}"] img[src*="/view"]\')]'
            if self.page.renderer == "nodes2"
            else f"(app.graph.getNodeById({self.id}).imgs ?? [])"
        )
        self.page.wait_for(f"{shown}.length && {shown}.every(image => image.naturalWidth)")
        return self.page.js(f"{shown}.map(image => [image.naturalWidth, image.naturalHeight])")

    def slot(self, name: str, side: Literal["input", "output"]) -> tuple[float, float]:
        """Where an input's or output's dot is in the window, in CSS pixels."""
        index = self._js(
            "(node, [name, side]) => node[`${side}s`].findIndex(slot => slot.name === name)",
            [name, side],
        )
        assert index >= 0, f"{self.kind} has no {side} {name}"
        if self.page.renderer == "nodes2":
            key = f"{self.id}-{'in' if side == 'input' else 'out'}-{index}"
            box = self.page.dom.locator(f'[data-slot-key="{key}"]').bounding_box()
            assert box is not None, f"{side} {name} of {self.kind} is not in the DOM"
            return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        x, y = self._js(
            """(node, [index, side]) => app.canvasPosToClientPos(
              side === "input" ? node.getInputPos(index) : node.getOutputPos(index))""",
            [index, side],
        )
        return x, y

    def move(self, x: float, y: float) -> None:
        """Put the node at a place of the canvas."""
        self._js(
            "(node, [x, y]) => { node.pos = [x, y]; node.setDirtyCanvas(true, true); }", [x, y]
        )
        self.page.settle()

    def click_title(self) -> None:
        """Click the middle of the node's title, which selects it."""
        box = self.box()
        half_a_title = 15 * self.page.scale()
        self.page.dom.mouse.click(box["x"] + box["width"] / 2, box["y"] + half_a_title)
        self.page.settle()

    def _js(self, code: str, argument: Any = None) -> Any:
        """The result of a JavaScript function of this node and an argument."""
        return self.page.js(
            f"([id, argument]) => ({code})(app.graph.getNodeById(id), argument)",
            [self.id, argument],
        )

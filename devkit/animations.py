"""Short animations of the nodes in the browser, for the README and the help pages.

python -m devkit.animations [NAME …]    film all scenes, or those with these names

A scene loads a template, does what a person does, and shoots a frame after each step.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page, ViewportSize, sync_playwright

from .chromium import chromium
from .client import Client
from .environment import DEV, ROOT, SetupError, say
from .host import own_host
from .server import Server

WINDOW: ViewportSize = {"width": 1500, "height": 1000}
SETTINGS = {
    "Comfy.VueNodes.Enabled": True,
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Notification.ShowVersionUpdates": False,
}
STARTER = "1 One flag, any shape"
METHODS = "6 Extrapolation methods compared"
MOVE_MS, LOOK_MS = 90, 1100
"""How long a frame is shown while something moves, and where there is something to see."""
RUN_MS = 600_000
"""How long a workflow may run."""
QUALITY = 50
POINTER = """() => {
  const pointer = document.createElement("div");
  pointer.style.cssText = "position:fixed;z-index:99999;width:18px;height:18px;margin:-9px;" +
    "border-radius:50%;background:#fffa;border:2px solid #000a;pointer-events:none;left:-99px";
  document.body.append(pointer);
  addEventListener("pointermove", event => {
    pointer.style.left = event.clientX + "px";
    pointer.style.top = event.clientY + "px";
    document.querySelector("dialog[open]")?.append(pointer);  // it covers all else
    if (!document.querySelector("dialog[open]")) document.body.append(pointer);
  }, true);
}"""


class Stage:
    """A ComfyUI in a browser, a mouse that is seen, and the frames that were shot."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clip: FloatRect | None = None
        """What is filmed, in CSS pixels of the window; all of it if ``None``."""
        self._frames: list[tuple[Image.Image, int]] = []
        self._at = (0.0, 0.0)

    def load(self, template: str, scale: float = 1.0) -> None:
        """Open a workflow in workflows/ by its name, at a scale, its corner at the upper left."""
        file = (ROOT / "workflows" / f"{template}.json").read_text(encoding="utf-8")
        self.page.evaluate("async file => { await app.loadGraphData(file); }", json.loads(file))
        self.page.wait_for_timeout(1500)
        self.page.evaluate(
            """scale => {
              const nodes = app.graph.nodes.filter(node => node.type !== "MarkdownNote");
              const [left, top] = [0, 1].map(i => Math.min(...nodes.map(node => node.pos[i])));
              app.canvas.ds.scale = scale;
              app.canvas.ds.offset = [100 / scale - left, 140 / scale - top];
              app.canvas.setDirty(true, true);
            }""",
            scale,
        )
        self.page.wait_for_timeout(800)

    def node(self, kind: str) -> Locator:
        """The element of the only node of a type."""
        id_ = self.page.evaluate(
            "kind => app.graph.nodes.find(node => node.type === kind).id", kind
        )
        return self.page.locator(f'[data-node-id="{id_}"]')

    def aim(self, target: Locator, margin: float = 8) -> None:
        """Film an element and a little around it."""
        box = _box(target)
        self.clip = {
            "x": box["x"] - margin,
            "y": box["y"] - margin,
            "width": box["width"] + 2 * margin,
            "height": box["height"] + 2 * margin,
        }

    def shoot(self, milliseconds: int) -> None:
        """One frame, shown as long as this."""
        picture = self.page.screenshot(clip=self.clip)
        self._frames.append((Image.open(io.BytesIO(picture)).convert("RGB"), milliseconds))

    def move(self, x: float, y: float, steps: int = 4) -> None:
        """Move the mouse to a point of the window, and film how."""
        start = self._at
        for step in range(1, steps + 1):
            part = step / steps
            self.page.mouse.move(*(a + (b - a) * part for a, b in zip(start, (x, y), strict=True)))
            self.page.wait_for_timeout(60)
            self.shoot(MOVE_MS)
        self._at = (x, y)

    def point(self, target: Locator, steps: int = 4) -> None:
        """Move the mouse to the middle of an element."""
        box = _box(target)
        self.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps)

    def click(self, target: Locator, look: int = LOOK_MS) -> None:
        """Go to an element, press it, and look at what it did."""
        self.point(target)
        self.page.mouse.down()
        self.page.mouse.up()
        self.page.wait_for_timeout(400)
        self.shoot(look)

    def save(self, path: Path, width: int) -> None:
        """Write the frames as an animated WebP of this width in pixels, and start anew."""
        pictures = [
            frame.resize((width, frame.height * width // frame.width), Image.Resampling.LANCZOS)
            for frame, _ in self._frames
        ]
        pictures[0].save(
            path,
            save_all=True,
            append_images=pictures[1:],
            duration=[duration for _, duration in self._frames],
            loop=0,
            quality=QUALITY,
            method=6,
        )
        self._frames = []
        say(f"wrote {path.relative_to(ROOT)}, {path.stat().st_size // 1000} kB")


def shape_pad(stage: Stage) -> None:
    """The corner of the pad is dragged, then chips are pressed."""
    stage.load(STARTER)
    node = stage.node("FiTResolution")
    # With the fields of an exact size from the start, nothing moves under the mouse.
    stage.page.evaluate(
        """() => {
          const node = app.graph.nodes.find(node => node.type === "FiTResolution");
          node.widgets[0].value = "exact size";
          node.widgets[0].callback?.("exact size");
        }"""
    )
    stage.page.wait_for_timeout(800)
    stage.aim(node)
    corner = node.locator(".fitv2-stage-corner")
    stage.point(node.locator(".fitv2-facts"), steps=1)
    stage.shoot(LOOK_MS)
    stage.point(corner)
    start = _box(corner)
    x, y = start["x"] + start["width"] / 2, start["y"] + start["height"] / 2
    stage.page.mouse.down()
    for right, down in ((40, -20), (90, -40), (60, -10), (-30, 10), (-60, 0)):
        stage.move(x + right, y + down, 5)
    stage.page.mouse.up()
    stage.shoot(LOOK_MS)
    for name in (
        "Swap width and height",
        "3:1",
        "2:1",
        "2 × the trained side",
        "1 × the trained side",
    ):
        stage.click(node.locator(f'button[aria-label="{name}"]'))


def class_picker(stage: Stage) -> None:
    """A class is chosen by its image, then another is found by typing."""
    stage.load(STARTER)
    stage.clip = {"x": 280, "y": 60, "width": 940, "height": 840}
    node = stage.node("FiTClassLabel")
    stage.point(node, steps=1)
    stage.shoot(LOOK_MS)
    opener = node.locator(".fitv2-class-open")
    dialog = stage.page.get_by_role("dialog", name="Choose classes")
    stage.click(opener)
    stage.point(dialog.get_by_role("listbox"))
    for _ in range(6):
        stage.page.mouse.wheel(0, 160)
        stage.page.wait_for_timeout(120)
        stage.shoot(MOVE_MS)
    stage.shoot(LOOK_MS)
    stage.click(dialog.get_by_role("option", name="Kuwait"))
    stage.click(opener)
    for letter in "swe":
        stage.page.keyboard.type(letter)
        stage.page.wait_for_timeout(300)
        stage.shoot(400)
    stage.shoot(LOOK_MS)
    stage.click(dialog.get_by_role("option").first, 2 * LOOK_MS)


def compare_viewer(stage: Stage) -> None:
    """All images of a sweep are zoomed together, and two are compared with a slider."""
    stage.page.set_viewport_size({"width": 1080, "height": 720})  # its text stays readable
    stage.load(METHODS)
    stage.page.evaluate(
        """() => {
          const widgets = type => app.graph.nodes.find(node => node.type === type).widgets;
          const set = (type, name, value) => {
            widgets(type).find(widget => widget.name === name).value = value;
          };
          set("FiTResolutionSweep", "sizes", "1:1 @ 256\\n1:1 @ 576\\n1:1 @ 1024");
          set("FiTResolutionSweep", "methods", "none\\nlinear\\nyarn");
          set("FiTCompareSheet", "columns", "");
          app.queuePrompt(0);
        }"""
    )
    node = stage.node("FiTCompareSheet")
    cells = node.locator(".fitv2-viewer-cell img")
    cells.nth(8).wait_for(timeout=RUN_MS)
    # Not with the mouse: the node is outside the window.
    node.get_by_role("button", name="Full screen (F)").dispatch_event("click")
    viewer = stage.page.locator("dialog.fitv2-viewer-full-screen")
    stage.page.wait_for_timeout(800)
    linear, yarn = (viewer.locator(f'[data-place="{row},2"]') for row in (1, 2))
    stage.point(linear, steps=1)
    stage.shoot(LOOK_MS)
    for turn in (*[-200] * 4, *[200] * 4):
        stage.page.mouse.wheel(0, turn)
        stage.page.wait_for_timeout(150)
        stage.shoot(LOOK_MS if turn < 0 else MOVE_MS)
    stage.click(yarn)
    stage.page.keyboard.down("Shift")
    stage.click(linear)
    stage.page.keyboard.up("Shift")
    handle = viewer.get_by_role("slider", name="Where A ends")
    frame = _box(viewer.locator(".fitv2-viewer-pair .fitv2-viewer-frame"))
    stage.point(handle)
    stage.page.mouse.down()
    for part in (0.2, 0.8, 0.5):
        stage.move(frame["x"] + part * frame["width"], frame["y"] + frame["height"] / 2, 6)
    stage.page.mouse.up()
    stage.shoot(LOOK_MS)
    stage.click(viewer.get_by_role("button", name="Where A and B differ (D)"), 2 * LOOK_MS)


SCENES: dict[str, tuple[Callable[[Stage], None], Path, int]] = {
    "pad": (shape_pad, ROOT / "web" / "docs" / "pictures" / "pad.webp", 420),
    "picker": (class_picker, ROOT / "web" / "docs" / "pictures" / "picker.webp", 480),
    "viewer": (compare_viewer, ROOT / "web" / "docs" / "pictures" / "viewer.webp", 800),
}
"""By name: what is done, the file, and its width in pixels."""


def film(url: str, names: list[str]) -> None:
    """Film the scenes with these names at a ComfyUI with this address."""
    program = chromium()
    if program is None:
        raise SetupError("Animations need a Chromium, and none was found.")
    Client(url).post("/settings", SETTINGS)
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"] if is_root else []
        )
        page = browser.new_page(viewport=WINDOW, device_scale_factor=1.5)
        page.goto(url)
        page.wait_for_function("window.app?.vueAppReady && app.graph?.nodes.length")
        page.evaluate(POINTER)
        for name in names:
            scene, path, width = SCENES[name]
            stage = Stage(page)
            scene(stage)
            stage.save(path, width)
        browser.close()


def _box(target: Locator) -> FloatRect:
    box = target.bounding_box()
    if box is None:
        raise SetupError(f"{target} is not on the page.")
    return box


def main() -> None:
    names = sys.argv[1:] or list(SCENES)
    if unknown := [name for name in names if name not in SCENES]:
        raise SetupError(f"No scene {', '.join(unknown)}. There are: {', '.join(SCENES)}.")
    with Server(own_host(), DEV / "base") as server:
        film(server.url, names)


if __name__ == "__main__":
    main()

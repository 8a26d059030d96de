"""How soon the dialog of classes opens in the browser, and whether it scrolls smoothly.

    python -m benchmarks.class_picker

A Chromium without a window opens ComfyUI with a model of 1,000 and one of 10,000 classes, each with
a class sheet. "open" is from the click on "Classes…" to the second frame that shows the dialog, and
"work" the processor time of the page's main thread in it. Then the list is scrolled from its top to
its end, one step per frame: "dropped" are the frames that came later than 1.5 intervals after the
one before, and "per frame" is the processor time of the main thread, of 16.7 ms that there are.

Goals: open within 150 ms, no dropped frames.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from playwright.sync_api import CDPSession, sync_playwright

from comfyui_fitv2 import FiT, FiTConfig, Metadata, save_checkpoint
from devkit.chromium import chromium
from devkit.client import Client
from devkit.environment import DEV
from devkit.host import find_host
from devkit.server import Server
from sheets.class_sheet import SheetMaker, layout_for, sheet_path

FRAMES = 240
INTERVAL_MS = 1000 / 60
TILE = 72, 48
"""Width and height of a tile of the sheet, in pixels."""

_GRAPH = """name => {
  app.graph.clear();
  const loader = LiteGraph.createNode("FiTLoader");
  const label = LiteGraph.createNode("FiTClassLabel");
  app.graph.add(loader);
  app.graph.add(label);
  label.pos = [400, 100];
  loader.widgets.find(widget => widget.name === "checkpoint").value = name;
  label.widgets[0].value = "class 1";
  loader.connect(0, label, 0);
  app.canvas.ds.offset = [0, 100];
  app.canvas.setDirty(true, true);
}"""
_OPEN = """() => new Promise(done => {
  const start = performance.now();
  document.querySelector(".fitv2-class-open").click();
  const shown = () => document.querySelector(".fitv2-class-dialog[open] .fitv2-class-tile");
  const look = () => requestAnimationFrame(() => shown()
    ? requestAnimationFrame(() => done(performance.now() - start)) : look());
  look();
})"""
_SCROLL = """frames => new Promise(done => {
  const grid = document.querySelector(".fitv2-class-grid");
  const step = (grid.scrollHeight - grid.clientHeight) / frames;
  const times = [];
  grid.scrollTop = 0;
  const next = now => {
    times.push(now);
    if (times.length > frames) return done(times);
    grid.scrollTop += step;
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})"""


class Measured(NamedTuple):
    opened_ms: float
    opening_ms: float
    """Processor time of the main thread while the dialog opened."""
    dropped: int
    frame_ms: float
    """Processor time of the main thread per frame while the list was scrolled."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--comfyui", type=Path, help="your own ComfyUI instead of the one in .dev")
    arguments = parser.parse_args()
    DEV.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEV, prefix="picker-") as folder:
        counts = (1_000, 10_000)
        for count in counts:
            _save_model(Path(folder) / "models" / "fit" / f"{count}.safetensors", count)
        with Server(find_host(arguments.comfyui, None), Path(folder)) as server:
            # Else the templates open by themselves.
            Client(server.url).post("/settings", {"Comfy.TutorialCompleted": True})
            print(f"{'classes':>8} {'open':>8} {'work':>8} {'dropped':>8} {'per frame':>10}")
            for count in counts:
                m = _measure(server.url, count)
                print(
                    f"{count:8,} {m.opened_ms:5.0f} ms {m.opening_ms:5.0f} ms {m.dropped:8}"
                    f" {m.frame_ms:7.1f} ms",
                    flush=True,
                )


def _save_model(file: Path, count: int) -> None:
    """A small model, and a sheet on which each class has a colour of its own."""
    torch.manual_seed(0)
    config = FiTConfig(hidden_size=96, depth=1, num_heads=4, num_classes=count, adaln_lora_dim=24)
    names = [f"class {i}" for i in range(count)]
    save_checkpoint(file, FiT(config).state_dict(), Metadata(config, names))
    sheet = SheetMaker(layout_for([TILE] * count))
    for i in range(count):
        sheet.put(i, Image.new("RGB", TILE, (i * 37 % 256, i * 91 % 256, i * 53 % 256)))
    sheet_path(file).write_bytes(sheet.encode())


def _measure(url: str, count: int) -> Measured:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.goto(url, wait_until="domcontentloaded")
        page.wait_for_function("window.app?.vueAppReady && app.graph.nodes.length", timeout=120_000)
        page.evaluate(_GRAPH, f"{count}.safetensors")
        page.locator(".fitv2-class-chip-face .fitv2-class-face").wait_for()
        page.wait_for_timeout(1000)
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        start = _work_ms(session)
        opened = page.evaluate(_OPEN)
        shown = _work_ms(session)
        times = page.evaluate(_SCROLL, FRAMES)
        scrolled = _work_ms(session)
        browser.close()
    dropped = sum(after - before > 1.5 * INTERVAL_MS for before, after in pairwise(times))
    return Measured(opened, shown - start, dropped, (scrolled - shown) / FRAMES)


def _work_ms(session: CDPSession) -> float:
    """The processor time of the page's main thread so far, in milliseconds."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(1000 * metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


if __name__ == "__main__":
    main()

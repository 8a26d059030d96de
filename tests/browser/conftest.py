"""A ComfyUI with the pack, and a Chromium that looks at it.

A test asks for ``page`` and reads like a sentence::

    def test_a_picture_is_drawn(page: Page):
        page.load("2 Three aspect ratios")
        label = page.node("FiTClassLabel")
        label.set("text", "Finland")
        run = page.run()
        assert len(run.files()) == 3

What a page and its nodes can do is in pages.py and nodes.py. Each test runs twice: on the classic
canvas and in Nodes 2.0. ``page.renderer`` says which. A test of one of them names it::

    @pytest.mark.parametrize("renderer", ["nodes2"], indirect=True)

``@pytest.mark.newest_frontend`` runs a test on the newest frontend too, beside the host's own.

Each test starts with an empty canvas in the same tab, and fails if the console shows an error that
is not the host's own. When one fails, a screenshot and the end of ComfyUI's log are in the report.

``python dev.py test -- tests/browser -k picture`` sets what the tests read: ``FITV2_HOST`` and
``FITV2_HOST_PYTHON`` (a ComfyUI and its Python), ``FITV2_CHROMIUM`` (the browser's file) and
``FITV2_NEWEST_FRONTEND`` (the folder that --front-end-root of ComfyUI takes).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser.comparisons import METHODS, SIZES, bring_into_view, comparison, send
from browser.nodes import Node
from browser.pages import WAIT_MS, Page, Renderer
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from devkit.chromium import HOW_TO_GET_ONE, VARIABLE
from devkit.client import Client
from devkit.environment import DEV
from devkit.host import Host
from devkit.server import Server

SUPPORT = Path(__file__).parent.parent / "support"
SCREENSHOTS = DEV / "screenshots"
"""What failed tests showed last."""

WINDOW: ViewportSize = {"width": 1600, "height": 1000}
BROWSER_ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
]
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else the templates open by themselves
    "Comfy.Minimap.Visible": False,  # it covers what lies below
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.VersionCompatibility.DisableWarnings": True,
    "Comfy.Workflow.ShowMissingModelsWarning": False,  # of the workflow that ComfyUI opens first
    "Comfy.Workflow.WarnBlueprintOverwrite": False,
    "Comfy.Window.UnloadConfirmation": False,  # a dialog at each refresh
    "Comfy.Execution.PreviewMethod": "default",
    "Comfy.NodeSearchBoxImpl.FollowCursor": False,  # a new node waits for a click to be placed
    "Comfy.Node.AlwaysShowAdvancedWidgets": False,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "frontend" in metafunc.fixturenames:
        newest = metafunc.definition.get_closest_marker("newest_frontend") is not None
        names = ["host", "newest"] if newest else ["host"]
        metafunc.parametrize("frontend", names, indirect=True, scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of a frontend one after the other, and in it all of a renderer.

    Left alone, pytest starts a ComfyUI three times. With one per frontend, a picture that was drawn
    on the classic canvas comes from ComfyUI's cache in Nodes 2.0.
    """

    def place(number: int) -> tuple[str, str]:
        item = items[number]
        assert isinstance(item, pytest.Function)
        return str(item.callspec.params["frontend"]), str(item.callspec.params["renderer"])

    ours = [i for i, item in enumerate(items) if "tabs" in getattr(item, "fixturenames", ())]
    in_order = [items[i] for i in sorted(ours, key=place)]
    for i, item in zip(ours, in_order, strict=True):
        items[i] = item


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, Any, Any]:
    """Fail a test for what its page reported, and show what the page and ComfyUI said."""
    page = item.funcargs.get("page")
    if not isinstance(page, Page):
        return (yield)
    try:
        result = yield
        assert not page.errors, "the console shows:\n" + "\n".join(page.errors)
        return result
    except Exception:
        name = re.sub(r"[^\w.-]+", "_", item.name)
        file = page.screenshot(SCREENSHOTS / f"{name}.png")
        item.add_report_section("call", "browser", f"screenshot: {file}\n" + "\n".join(page.errors))
        server = item.funcargs["comfyui"]
        assert isinstance(server, Server)
        item.add_report_section("call", "ComfyUI", server.log()[-3000:])
        raise


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if VARIABLE not in os.environ:
        # A skipped test in CI would hide that nothing looked at the browser.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(HOW_TO_GET_ONE)
    expect.set_options(timeout=WAIT_MS)
    with sync_playwright() as playwright:
        arguments = list(BROWSER_ARGUMENTS)
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            arguments.append("--no-sandbox")  # Chromium refuses to run as root without it
        browser = playwright.chromium.launch(executable_path=os.environ[VARIABLE], args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def frontend(request: pytest.FixtureRequest) -> str:
    """ "host" for the frontend that the host requires, "newest" for the newest one."""
    return request.param


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory, frontend: str) -> Iterator[Server]:
    """ComfyUI on the processor, with a data folder of its own."""
    if "FITV2_HOST" not in os.environ:
        pytest.skip("needs a ComfyUI: run `python dev.py test`, which fetches one")
    host = Host(Path(os.environ["FITV2_HOST"]), Path(os.environ["FITV2_HOST_PYTHON"]), ours=False)
    root = ["--front-end-root", os.environ["FITV2_NEWEST_FRONTEND"]] if frontend == "newest" else []
    base = tmp_path_factory.mktemp("browser")
    _prepare_user(base / "user" / "default")
    (base / "custom_nodes").mkdir()
    shutil.copy(SUPPORT / "holding_node.py", base / "custom_nodes")
    with Server(host, base, "--cpu", *root) as running:
        yield running
        log = running.log()
    assert f"Cannot import {base}" not in log, log


@pytest.fixture(scope="session", params=["classic", "nodes2"])
def renderer(request: pytest.FixtureRequest) -> Renderer:
    """ "classic" for the canvas, "nodes2" for Nodes 2.0."""
    return request.param


class Tabs:
    """One tab that tests use in turn, because the frontend takes seconds to start."""

    def __init__(self, chromium: Browser, client: Client, renderer: Renderer) -> None:
        self._chromium = chromium
        self._client = client
        self._renderer: Renderer = renderer
        self._page: Page | None = None

    def empty(self) -> Page:
        """The tab with an empty canvas, and no other."""
        settings = {**SETTINGS, "Comfy.VueNodes.Enabled": self._renderer == "nodes2"}
        self._client.post("/settings", settings)
        if self._page is None:
            context = self._chromium.new_context(viewport=WINDOW, reduced_motion="reduce")
            self._page = Page.open(context, self._client, self._renderer)
        else:
            self._page.reset(WINDOW)
        return self._page

    def close(self) -> None:
        if self._page is not None:
            self._page.dom.context.close()
        self._page = None


@pytest.fixture(scope="session")
def tabs(comfyui: Server, chromium: Browser, renderer: Renderer) -> Iterator[Tabs]:
    kept = Tabs(chromium, Client(comfyui.url), renderer)
    yield kept
    kept.close()


@pytest.fixture
def page(tabs: Tabs, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty canvas. Nothing that an earlier test did is left but settings."""
    failed_before = request.session.testsfailed
    yield tabs.empty()
    if request.session.testsfailed > failed_before:
        tabs.close()  # who knows what it left behind


@pytest.fixture
def sheet(page: Page, comfyui: Server) -> Node:
    """A FiT Compare Sheet that shows two methods and three sizes, in a workflow that sweeps."""
    page.load("5 Seven aspect ratios compared")
    node = page.node("FiTCompareSheet")
    bring_into_view(page, node)
    send(page, node, comparison(comfyui, METHODS, SIZES))
    return node


def _prepare_user(folder: Path) -> None:
    """Make what the frontend asks for at its start; it prints an error for each missing file."""
    for name in ("workflows", "subgraphs"):
        (folder / name).mkdir(parents=True)
    (folder / "user.css").touch()
    (folder / "comfy.templates.json").write_text("[]")

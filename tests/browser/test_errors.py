"""What a node says when it fails is seen without opening anything."""

from __future__ import annotations

import time

import pytest
from browser.pages import WAIT_MS, Page, in_one_renderer

from devkit.client import PromptError


@pytest.mark.newest_frontend
def test_the_message_of_a_failed_node_is_in_a_toast(page: Page) -> None:
    page.load(
        {
            "last_node_id": 3,
            "last_link_id": 2,
            "nodes": [
                node(1, "FiTLoader", ["fitv2_flags256.safetensors", "auto", "auto"], outputs=[1]),
                node(2, "FiTClassLabel", ["Atlantis"], model=1, outputs=[None, None, 2]),
                node(3, "PreviewAny", [], source=2),
            ],
            "links": [[1, 1, 0, 2, 0, "MODEL"], [2, 2, 2, 3, 0, "STRING"]],
            "groups": [],
            "config": {},
            "extra": {},
            "version": 0.4,
        }
    )
    with pytest.raises(PromptError) as error:
        page.run()
    message = error.value.details["exception_message"].strip()
    assert "Atlantis" in message
    toast = wait_for_toast(page, message)
    assert "FiT Class Label" in toast
    page.errors.clear()  # the frontend logs the error of the run


def test_an_error_of_the_pack_in_another_node_is_in_a_toast_and_no_other(page: Page) -> None:
    for folder, message in (("fitv2", "needs a class"), ("other", "needs nothing of ours")):
        page.js(
            """([folder, message]) => app.api.dispatchEvent(new CustomEvent("execution_error", {
              detail: {
                prompt_id: "1", node_id: "1", node_type: "KSampler", executed: [],
                exception_type: "ValueError", exception_message: message, traceback: [
                  '  File "/comfyui/execution.py", line 1, in run\\n',
                  `  File "C:\\\\custom_nodes\\\\${folder}\\\\nodes\\\\a.py", line 2\\n`,
                ],
              },
            }))""",
            [folder, message],
        )
    wait_for_toast(page, "needs a class")
    assert not [text for text in page.toasts() if "needs nothing of ours" in text]
    page.errors.clear()  # the frontend logs the errors


@pytest.mark.slow
@in_one_renderer
def test_a_warning_stays_until_it_is_closed_and_is_shown_once(page: Page) -> None:
    warn = """text => app.api.dispatchCustomEvent("fitv2_warning", {node_id: "1", text})"""
    for text in ("this VAE does not fit", "denoise is below 1", "this VAE does not fit"):
        page.js(warn, text)
        page.settle()
    page.dom.wait_for_timeout(16_000)  # an error is gone by then
    assert sorted(toast.splitlines()[-1] for toast in page.toasts()) == [
        "denoise is below 1",
        "this VAE does not fit",
    ]


def wait_for_toast(page: Page, text: str) -> str:
    """The whole text of the toast that holds this text, as soon as there is one."""
    deadline = time.monotonic() + WAIT_MS / 1000
    while not (found := [toast for toast in page.toasts() if text in toast]):
        assert time.monotonic() < deadline, f"{text!r} is in no toast: {page.toasts()}"
        page.settle()
    return found[0]


def node(id, kind, values, outputs=(), **links):
    return {
        "id": id,
        "type": kind,
        "pos": [40 + 360 * id - 360, 80],
        "size": [300, 160],
        "flags": {},
        "order": id,
        "mode": 0,
        "inputs": [{"name": name, "type": "*", "link": link} for name, link in links.items()],
        "outputs": [
            {"name": str(i), "type": "*", "links": [] if link is None else [link]}
            for i, link in enumerate(outputs)
        ],
        "properties": {},
        "widgets_values": values,
    }

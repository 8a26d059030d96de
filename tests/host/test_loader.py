"""What FiT Loader offers, and what it tells about a checkpoint."""

from __future__ import annotations

import pytest
from host.inside import run_inside
from support.graph import BUNDLED, Graph
from support.live_client import LiveClient


@pytest.mark.parametrize(
    ("checkpoint", "report"),
    [
        (
            BUNDLED,
            "Use the VAE fit_tiny_vae · 256 classes"
            " · trained on up to 256 tokens (256 × 256 px, 16 tokens a side)",
        ),
        (
            "ten_classes.safetensors",
            "Use the VAE of Stable Diffusion 1.x · 10 classes"
            " · trained on up to 256 tokens (256 × 256 px, 16 tokens a side)",
        ),
    ],
)
def test_the_loader_tells_the_vae_the_classes_and_the_trained_size(
    graph: Graph, client: LiveClient, checkpoint: str, report: str
) -> None:
    # Its seldom input is given, because a node that has run already says nothing.
    inputs = {"checkpoint": checkpoint, "weight_dtype": "fp32", "preset": "auto"}
    loader = graph.add("FiTLoader", **inputs)
    shown = graph.add("PreviewAny", source=loader[1])
    run = client.run(graph.prompt)
    assert run.outputs[shown.id]["text"] == [report]
    vae, classes, _ = report.split(" · ")
    assert run.texts == {loader.id: f"{vae}\n{classes}"}


@pytest.mark.host
def test_without_the_bundled_checkpoint_the_first_one_is_the_default() -> None:
    defaults = run_inside(
        """
from unittest.mock import patch
from fitv2.nodes import loader
def default(names):
    with patch.object(loader.host, "checkpoint_names", lambda: names):
        checkpoint = loader.FiTLoader.GET_NODE_INFO_V1()["input"]["required"]["checkpoint"][1]
    return checkpoint.get("default")
with_others = ["a.safetensors", loader.DEFAULT_CHECKPOINT]
answer([default(names) for names in (with_others, with_others[:1], [])])
"""
    )
    assert defaults == [BUNDLED, "a.safetensors", ""]

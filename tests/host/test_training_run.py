"""FiT Training Run follows a run that goes on: made here, checkpoint by checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from host.reference import TOLERANCE, distance, sampled
from PIL import Image
from support.graph import Graph, Node
from support.parts import cut_into_parts
from support.run_folders import make_run

from comfyui_fitv2 import FiT, load_checkpoint
from devkit.client import PromptError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "mine")


def node_of(graph: Graph, run: str, average: str = "") -> Node:
    return graph.add("FiTTrainingRun", run=run, average=average, weight_dtype="fp32")


def test_a_newer_checkpoint_is_loaded_when_there_is_one(
    graph: Graph, client, latents, run: Path
) -> None:
    node = node_of(graph, str(run))
    image = graph.fit_sampler(node[0], graph.label(node[0], "dog"), graph.size()[0])
    shown = [graph.add("PreviewAny", source=node[slot]) for slot in (1, 2)]
    sheet = graph.add("PreviewImage", images=node[3])

    def expected(step: int) -> torch.Tensor:
        file = run / "checkpoints" / f"step-{step:08d}" / "ema-0.9999.safetensors"
        model: FiT = load_checkpoint(file, dtype=torch.float32).model
        return sampled(model.requires_grad_(False), 1)

    first = latents(graph, image[0])
    assert distance(first, expected(20)) <= TOLERANCE
    outputs = client.run(graph.prompt).outputs
    assert outputs[shown[0].id]["text"] == ["20"]
    assert "step 20 of 20 · epoch 1" in outputs[shown[1].id]["text"][0]

    newer = run / "checkpoints" / "step-00000030"
    shutil.copytree(run / "checkpoints" / "step-00000010", newer)
    (run / "samples").mkdir()
    Image.new("RGB", (80, 50), "red").save(run / "samples" / "step-00000030.png")
    second = latents(graph, image[0])
    assert distance(second, expected(30)) <= TOLERANCE
    outputs = client.run(graph.prompt).outputs
    assert outputs[sheet.id]["images"]

    # What was loaded needs its file no more.
    shutil.rmtree(run / "checkpoints" / "step-00000020")
    shutil.rmtree(newer)
    shutil.rmtree(run / "checkpoints" / "step-00000010")
    with pytest.raises(PromptError, match="no complete checkpoint yet"):
        client.run(graph.prompt)


def test_a_run_of_several_processes_is_merged(graph: Graph, latents, run: Path) -> None:
    node = node_of(graph, str(run))
    image = graph.fit_sampler(node[0], graph.label(node[0], "dog"), graph.size()[0])
    newest = run / "checkpoints" / "step-00000020"
    model: FiT = load_checkpoint(newest / "ema-0.9999.safetensors", dtype=torch.float32).model
    expected = sampled(model.requires_grad_(False), 1)
    cut_into_parts(newest)
    assert distance(latents(graph, image[0]), expected) <= TOLERANCE


def test_what_cannot_be_loaded_says_why(client, run: Path, tmp_path: Path) -> None:
    damaged = make_run(tmp_path / "damaged")
    file = damaged / "checkpoints" / "step-00000020" / "ema-0.9.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    cases = [
        (str(tmp_path), "", "is not the folder of a training run"),
        (str(run), "0.5", r"has no average \"0.5\". It has: 0.9, 0.9999"),
        (str(damaged), "0.9", "truncated"),
    ]
    for folder, average, message in cases:
        graph = Graph()
        graph.add("PreviewAny", source=node_of(graph, folder, average)[2])
        with pytest.raises(PromptError, match=message):
            client.run(graph.prompt)

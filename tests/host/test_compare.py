"""FiT Compare Sheet: every cell is a file with its settings, and a page needs no ComfyUI."""

from __future__ import annotations

import io
import json
import re

import pytest
from host.inside import run_inside
from PIL import Image
from support.graph import BUNDLED, Graph, Node
from support.live_client import LiveClient

from sheets.file_names import legal_name

MEASURES = ("width", "height", "tokens", "factor", "side_factor", "caption")


def sheet(graph: Graph, images: list, **changes) -> Node:
    settings = {"scale": "fitted", "title": "", "picture_size": 64, "rows": "", "columns": ""}
    return graph.add("FiTCompareSheet", images=images, **{**settings, **changes})


def sweep_of_two(graph: Graph, **changes) -> Node:
    loader = graph.loader()
    sweep = graph.sweep(loader[0], "96x64; 1:1 @ 16", "linear coupled", seeds="3, 4")
    sampled = graph.sweep_sampler(loader[0], sweep[0], steps=2)
    return sheet(graph, graph.decoded(sampled[0])[0], sweep=sampled[2], **changes)


def test_every_cell_is_a_file_with_its_settings(graph: Graph, client: LiveClient) -> None:
    node = sweep_of_two(graph)
    output = client.run(graph.prompt).outputs[node.id]
    (cells,) = output["fitv2_cells"]
    assert cells["rows"] == ["seed 3", "seed 4"]
    assert cells["columns"] == ["96x64", "1:1 @ 16"]
    assert [(c["row"], c["column"]) for c in cells["cells"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    first = cells["cells"][0]
    expected = {
        "checkpoint": BUNDLED,
        "class": "76 · France",
        "size": "96 × 64",
        "width": 96,
        "height": 64,
        "method": "linear",
        "decoupled": False,
        "attention_scale": "none",
        "seed": 3,
        "steps": 2,
        "solver": "euler",
        "guidance_scale": 2.0,
    }
    assert first["settings"] == expected
    assert {k: v for k, v in first.items() if k in MEASURES} == {
        "width": 96,
        "height": 64,
        "tokens": 24,
        "factor": 0.09,
        "side_factor": 0.38,
        "caption": "96 × 64 px · 24 tokens",
    }
    image = Image.open(io.BytesIO(client.fetch(first)))
    assert first["type"] == "temp"
    assert image.size == (96, 64)
    assert json.loads(image.info["fitv2"]) == expected
    assert json.loads(image.info["prompt"])[node.id]["class_type"] == "FiTCompareSheet"
    assert len({c["filename"] for c in cells["cells"]}) == 4
    assert len(output["images"]) == 1


def test_a_seed_that_javascript_would_round_comes_as_text(graph: Graph, client: LiveClient) -> None:
    seeds = [2**53 - 1, 2**53, 2**64 - 1]
    loader = graph.loader()
    sweep = graph.sweep(loader[0], "32x16", seeds=", ".join(map(str, seeds)))
    sampled = graph.sweep_sampler(loader[0], sweep[0], steps=1)
    node = sheet(graph, graph.decoded(sampled[0])[0], sweep=sampled[2])
    (cells,) = client.run(graph.prompt).outputs[node.id]["fitv2_cells"]
    told = [cell["settings"]["seed"] for cell in cells["cells"]]
    assert told == [seeds[0], str(seeds[1]), str(seeds[2])]
    image = Image.open(io.BytesIO(client.fetch(cells["cells"][2])))
    assert json.loads(image.info["fitv2"])["seed"] == seeds[2]


def test_images_without_a_sweep_tell_their_size_alone(graph: Graph, client: LiveClient) -> None:
    image = graph.add("EmptyImage", width=40, height=64, batch_size=2, color=0)
    node = sheet(graph, image[0], columns="a; b")
    (cells,) = client.run(graph.prompt).outputs[node.id]["fitv2_cells"]
    assert cells["rows"] == [""]
    assert cells["cells"][1]["settings"] == {"size": "40 × 64", "width": 40, "height": 64}
    assert cells["cells"][1]["factor"] is None
    assert cells["cells"][1]["side_factor"] is None


def test_pages_are_numbered_and_never_written_over(
    graph: Graph, client: LiveClient, server, tmp_path
) -> None:
    node = sweep_of_two(graph, html=True, title="Flags: 3:2?")
    (first,) = client.run(graph.prompt).outputs[node.id]["fitv2_html"]
    graph.prompt[node.id]["inputs"]["picture_size"] = 80
    (second,) = client.run(graph.prompt).outputs[node.id]["fitv2_html"]
    assert first == "FiT comparisons/Flagsx 3x2_00001/index.html"
    assert second == "FiT comparisons/Flagsx 3x2_00002/index.html"
    page = server.base / "output" / first
    names = sorted(path.name for path in (page.parent / "images").iterdir())
    assert names[0] == "0001 seed 3 - 96x64.png"
    assert len(names) == 4
    text = page.read_text(encoding="utf-8")
    assert text.count("<figure") == 4
    assert "76 · France" in text


def test_labels_are_file_names_everywhere(graph: Graph, client: LiveClient, server) -> None:
    loader = graph.loader()
    sweep = graph.sweep(loader[0], "3:2 @ 24; 1:1 @ 16", "none; ntk", "France; Italy")
    sampled = graph.sweep_sampler(loader[0], sweep[0], steps=1)
    shown = graph.add("PreviewAny", source=sampled[1])
    saved = graph.add("SaveImage", images=graph.decoded(sampled[0])[0], filename_prefix=sampled[1])
    run = client.run(graph.prompt)
    files = [file["filename"] for file in run.outputs[saved.id]["images"]]
    assert len(files) == 8
    assert files[0] == "76 - France - none - 3x2 @ 24 - 96 x 64 px_00001_.png"
    assert not any(re.search(r'[<>:"/\\|?*·]', name) for name in files)
    assert all(legal_name(text) == text for text in run.outputs[shown.id]["text"])


@pytest.mark.host
def test_a_list_without_images_is_refused_as_such() -> None:
    """As list nodes of other packs give it that leave images out."""
    refusals = run_inside(
        """
from fitv2.nodes.compare import FiTCompareSheet
from fitv2.nodes.sweep_decoder import FiTSweepDecoder
refusals = []
for node, inputs in (
    (FiTCompareSheet, dict(images=[], scale=["fitted"], title=[""], picture_size=[64], rows=[""],
                           columns=[""])),
    (FiTSweepDecoder, dict(latents=[], vae=[None])),
):
    try:
        node.execute(**inputs)
    except ValueError as error:
        refusals.append(str(error))
answer(refusals)
"""
    )
    assert [refusal.partition(".")[0] for refusal in refusals] == [
        "There are no images to compare",
        "There are no latents to decode",
    ]


@pytest.mark.parametrize("name", ["rows", "columns"])
def test_names_take_one_line_and_only_where_asked_for(client: LiveClient, name: str) -> None:
    inputs = client.get("/object_info/FiTCompareSheet")["FiTCompareSheet"]["input"]
    assert list(inputs["required"]) == [
        *("images", "scale", "title", "picture_size", "rows", "columns")
    ]
    assert list(inputs["optional"]) == ["sweep", "html"]
    assert not inputs["required"][name][1].get("multiline")
    assert inputs["required"][name][1]["advanced"]

"""What people see of the pack in a ComfyUI: nodes, help, previews, errors."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.broken_checkpoints import BROKEN, Broken
from support.graph import Graph
from support.live_client import LiveClient

from comfyui_fitv2 import DEFAULT_SOLVER, SOLVERS
from devkit.client import PromptError
from devkit.host import PACK_NAME
from devkit.locales import TRANSLATIONS

NODES = [
    "FiTLoader",
    "FiTClassLabel",
    "FiTResolution",
    "FiTExtrapolation",
    "FiTGuidance",
    "FiTSampler",
    "FiTSolver",
    "FiTScheduler",
    "FiTResolutionSweep",
    "FiTSweepSampler",
    "FiTSweepDecoder",
    "FiTCompareSheet",
    "FiTTrainingRun",
]


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_listed_described_and_searchable(client: LiveClient, name: str) -> None:
    info = client.get(f"/object_info/{name}")[name]
    assert info["python_module"] == f"custom_nodes.{PACK_NAME}"
    assert info["category"] == "FiT"
    assert len(info["description"]) > 30
    assert len(info["search_aliases"]) >= 5
    inputs = {
        key: spec
        for group in ("required", "optional")
        for key, spec in info["input"].get(group, {}).items()
    }
    assert [key for key, spec in inputs.items() if not spec[1].get("tooltip")] == []
    assert all(info["output_tooltips"])


def help_page(client: LiveClient, name: str, language: str = "en") -> str:
    """The page as the editor asks for it: English stands in for languages without their own."""
    path = name if language == "en" else f"{name}/{language}"
    return client.request(f"/extensions/{PACK_NAME}/docs/{path}.md").decode()


@pytest.mark.parametrize("language", ["en", *TRANSLATIONS])
@pytest.mark.parametrize("name", NODES)
def test_a_node_has_a_help_page_with_all_its_inputs(
    client: LiveClient, name: str, language: str
) -> None:
    page = help_page(client, name, language)
    info = client.get(f"/object_info/{name}")[name]
    for group in ("required", "optional"):
        for key in info["input_order"].get(group, []):
            assert f"`{key}`" in page, key
    for picture in re.findall(r"\]\((.+?)\)", page):
        client.request(f"/extensions/{PACK_NAME}/docs/{picture}")


@pytest.mark.parametrize("name", ["FiTSampler", "FiTSolver"])
def test_tooltip_and_help_page_describe_each_solver_by_its_summary(
    client: LiveClient, name: str
) -> None:
    solver = client.get(f"/object_info/{name}")[name]["input"]["required"]["solver"][1]
    page = " ".join(help_page(client, name).split())
    assert solver["options"] == list(SOLVERS)
    assert solver["default"] == DEFAULT_SOLVER
    for key, facts in SOLVERS.items():
        assert facts.summary
        assert f"{key}: {facts.summary}" in solver["tooltip"]
        assert f"**{key}**: {facts.summary}" in page


def test_a_sweep_offers_the_solvers_whose_steps_do_not_depend_on_the_batch(
    client: LiveClient,
) -> None:
    inputs = client.get("/object_info/FiTSweepSampler")["FiTSweepSampler"]["input"]["required"]
    offered = inputs["solver"][1]["options"]
    assert offered == [key for key, facts in SOLVERS.items() if not facts.adaptive]
    assert "dopri5" not in offered


def test_the_pack_has_no_other_nodes(client: LiveClient) -> None:
    ours = [
        name
        for name, info in client.get("/object_info").items()
        if info["python_module"] == f"custom_nodes.{PACK_NAME}"
    ]
    assert sorted(ours) == sorted(NODES)


def test_the_bundled_models_are_listed(client: LiveClient) -> None:
    assert (
        "fitv2_flags256.safetensors"
        in client.get("/object_info/FiTLoader")["FiTLoader"]["input"]["required"]["checkpoint"][1][
            "options"
        ]
    )
    assert (
        "fit_tiny_vae.safetensors"
        in client.get("/object_info/VAELoader")["VAELoader"]["input"]["required"]["vae_name"][0]
    )


@pytest.mark.parametrize(
    ("sampler", "flag"),
    [("fit_sampler", "Italy"), ("fit_sampler", "Brazil"), ("ksampler", "France")],
)
def test_previews_come_at_every_step_in_the_colours_of_the_image(
    graph: Graph, client: LiveClient, sampler: str, flag: str
) -> None:
    loader = graph.loader()
    node = getattr(graph, sampler)(
        loader[0], graph.label(loader[0], flag), graph.size()[0], steps=8
    )
    saved = graph.add("SaveImage", images=graph.decoded(node[0])[0], filename_prefix="preview")
    run = client.run(graph.prompt)
    assert [(value, maximum) for node_id, value, maximum in run.progress if node_id == node.id] == [
        (i, 8) for i in range(1, 9)
    ]
    assert len(run.previews) == 8
    image = (
        Image.open(io.BytesIO(client.fetch(run.outputs[saved.id]["images"][0])))
        .convert("RGB")
        .resize((24, 16))
    )
    preview = Image.open(io.BytesIO(run.previews[-1])).convert("RGB").resize((24, 16))
    difference = np.abs(np.asarray(image, dtype=float) - np.asarray(preview, dtype=float)) / 255
    assert difference.mean() < 0.1


def test_sampling_can_be_interrupted_and_started_again(graph: Graph, client: LiveClient) -> None:
    loader = graph.loader()
    node = graph.fit_sampler(loader[0], graph.label(loader[0]), graph.size()[0], steps=1000)
    graph.add("PreviewImage", images=graph.decoded(node[0])[0])

    def interrupt(kind: str, data: dict) -> None:
        if kind == "progress" and data["value"] == 3:
            client.interrupt()

    started = time.monotonic()
    run = client.run(graph.prompt, interrupt)
    assert run.interrupted
    assert run.progress[-1][1] < 100
    assert time.monotonic() - started < 60
    graph.prompt[node.id]["inputs"]["steps"] = 2
    assert not client.run(graph.prompt).interrupted


@pytest.mark.cases("N1")
def test_lists_may_be_typed_on_any_keyboard(graph: Graph, client: LiveClient) -> None:
    loader = graph.loader()
    label = graph.label(loader[0], "Finland；France、Italy؛７５ ・ Finland")
    sweep = graph.sweep(loader[0], "３：２；6４×３２", "ｎｔｋ；none　＋　paper", "Finland；France")
    shown = [graph.add("PreviewAny", source=output) for output in (label[2], sweep[1])]
    run = client.run(graph.prompt)
    assert [run.outputs[node.id]["text"][0] for node in shown] == [
        "75 · Finland; 76 · France; 110 · Italy; 75 · Finland",
        "8",
    ]


def test_the_label_node_tells_how_it_understood_the_text(graph: Graph, client: LiveClient) -> None:
    label = graph.label(graph.loader()[0], "france;  75; MOLDOVA")
    shown = graph.add("PreviewAny", source=label[2])
    assert client.run(graph.prompt).outputs[shown.id]["text"] == [
        "76 · France; 75 · Finland; 147 · Moldova, Republic of"
    ]


@pytest.mark.parametrize(
    ("inputs", "size", "report"),
    [
        (
            {"aspect_ratio": "3:1", "tokens": 256},
            (432, 144),
            "432 × 144 px · 27 × 9 = 243 tokens · 0.95× trained tokens (256)"
            " · 1.69× trained side (16)",
        ),
        (
            {"aspect_ratio": "9:16", "tokens": 1024},
            (384, 672),
            "384 × 672 px · 24 × 42 = 1008 tokens · 3.94× trained tokens (256), beyond"
            " · 2.62× trained side (16)",
        ),
        (
            {"aspect_ratio": "exact size", "width": 500, "height": 250},
            (496, 256),
            "500 × 250 → 496 × 256 px · 31 × 16 = 496 tokens · 1.94× trained tokens (256), beyond"
            " · 1.94× trained side (16)",
        ),
        (
            {"aspect_ratio": "custom ratio", "custom_ratio": "2．39：1"},
            (384, 160),
            "384 × 160 px · 24 × 10 = 240 tokens · 0.94× trained tokens (256)"
            " · 1.50× trained side (16)",
        ),
        (  # as scripts and widgets may set it
            {"aspect_ratio": "1:3.5"},
            (128, 464),
            "128 × 464 px · 8 × 29 = 232 tokens · 0.91× trained tokens (256)"
            " · 1.81× trained side (16)",
        ),
    ],
)
@pytest.mark.cases("N3")
def test_the_resolution_node_reports_its_size(
    graph: Graph, client: LiveClient, latents, inputs: dict, size: tuple[int, int], report: str
) -> None:
    node = graph.add(
        "FiTResolution",
        **{
            "tokens": 256,
            "width": 256,
            "height": 256,
            "batch_size": 2,
            "model": graph.loader()[0],
            **inputs,
        },
    )
    shown = [graph.add("PreviewAny", source=node[slot]) for slot in (1, 2, 3)]
    run = client.run(graph.prompt)
    assert [run.outputs[n.id]["text"][0] for n in shown] == [str(size[0]), str(size[1]), report]
    assert latents(graph, node[0]).shape == (2, 4, size[1] // 8, size[0] // 8)


@pytest.mark.cases("N3")
@pytest.mark.parametrize(
    "ratio", [{"aspect_ratio": "wide"}, {"aspect_ratio": "custom ratio", "custom_ratio": "0:1"}]
)
def test_what_is_no_ratio_is_refused_before_anything_runs(
    graph: Graph, client: LiveClient, ratio: dict
) -> None:
    size = {"tokens": 256, "width": 256, "height": 256, "batch_size": 1}
    graph.add("PreviewAny", source=graph.add("FiTResolution", **size, **ratio)[3])
    with pytest.raises(PromptError, match=r"is not an aspect ratio\. Write width : height"):
        client.run(graph.prompt)


def refuse(graph: Graph, client: LiveClient, node_type: str, message: str) -> None:
    """Check that the node that was added last, of this type, stops the prompt with a message."""
    graph.add("PreviewAny", source=[list(graph.prompt)[-1], 0])
    with pytest.raises(PromptError, match=message) as error:
        client.run(graph.prompt)
    assert error.value.details["node_type"] == node_type


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: b.name)
def test_a_broken_checkpoint_gets_a_clear_error_and_the_host_stays_up(
    graph: Graph, client: LiveClient, server, tmp_path: Path, broken: Broken
) -> None:
    made_by_code = tmp_path / "made_by_code"
    (server.base / "models" / "fit" / broken.name).write_bytes(broken.content(made_by_code))
    graph.loader(broken.name)
    refuse(graph, client, "FiTLoader", f"{broken.name}: .*{broken.message}")
    assert not made_by_code.exists()


def test_an_unknown_class_is_refused_before_sampling(graph: Graph, client: LiveClient) -> None:
    loader = graph.loader()
    graph.fit_sampler(loader[0], graph.label(loader[0], "Filland"), graph.size()[0])
    refuse(
        graph,
        client,
        "FiTClassLabel",
        'No class is called "Filland". The nearest is "75 · Finland"',
    )


def test_text_conditioning_is_refused_with_the_node_to_use(
    graph: Graph, client: LiveClient
) -> None:
    loader = graph.loader()
    text = graph.add("LotusConditioning")
    graph.ksampler(loader[0], graph.label(loader[0]), graph.size()[0], positive=text[0])
    refuse(
        graph,
        client,
        "KSampler",
        "this conditioning holds text. Connect the outputs of FiT Class Label",
    )


def test_labels_of_another_model_are_refused(graph: Graph, client: LiveClient) -> None:
    loader, other = graph.loader(), graph.loader("ten_classes.safetensors")
    graph.ksampler(loader[0], graph.label(other[0], "3"), graph.size()[0])
    refuse(graph, client, "KSampler", "model of 10 classes, and this one has 256")


def test_more_labels_than_images_are_refused(graph: Graph, client: LiveClient) -> None:
    loader = graph.loader()
    graph.fit_sampler(
        loader[0], graph.label(loader[0], "France; Italy; Japan"), graph.size(batch_size=2)[0]
    )
    refuse(graph, client, "FiTSampler", r"3 class labels for 2 image\(s\): set the batch size to 3")


def test_a_checkpoint_that_is_not_there_is_refused_by_the_host(
    graph: Graph, client: LiveClient
) -> None:
    graph.add("PreviewAny", source=graph.loader("nowhere.safetensors")[0])
    with pytest.raises(PromptError, match=r"nowhere.safetensors"):
        client.run(graph.prompt)

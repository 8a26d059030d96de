"""Many sizes in one packed pass: each image is the same as one sampled alone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from host.reference import FRANCE, ITALY, TOLERANCE, distance, noise, solver_noise
from PIL import Image
from support.graph import GUIDANCE_SCALE, STEPS, Graph, Node

from comfyui_fitv2 import SOLVERS, Extrapolation, FiT, Guidance, sample
from comfyui_fitv2.resolution import parse_size
from devkit.client import PromptError

# 64, 30, 54 and 48 tokens; the last is longer on one side than trained.
SIZES = "1:1 @ 64; 3:1 @ 40; 2:3 @ 64; 384x32"


def alone(
    model: FiT,
    size: str,
    class_id: int = FRANCE,
    solver: str = "euler",
    steps: int = STEPS,
    **settings,
) -> torch.Tensor:
    start = noise(1, *parse_size(size, 256).latent_size)
    if SOLVERS[solver].stochastic:
        settings |= solver_noise()
    settings = {"guidance": GUIDANCE_SCALE, **settings}
    return sample(model, start, torch.tensor([class_id]), solver, steps, **settings)


# Each with another number of steps: what was drawn before would not be drawn again.
@pytest.mark.parametrize(
    ("solver", "tokens_per_pass", "steps"),
    [
        ("euler", 16384, 4),
        ("euler", 110, 3),
        ("euler", 1, 2),
        ("midpoint", 16384, 4),
        ("sde-euler", 16384, 4),
        ("sde-euler", 110, 3),
        ("sde-euler", 1, 2),
    ],
)
def test_every_size_gives_the_image_it_would_alone(
    graph: Graph, latents, model: FiT, solver: str, tokens_per_pass: int, steps: int
) -> None:
    loader = graph.loader()
    sampled = latents.each(
        graph,
        graph.sweep_sampler(
            loader[0],
            graph.sweep(loader[0], SIZES)[0],
            solver=solver,
            steps=steps,
            tokens_per_pass=tokens_per_pass,
        )[0],
    )
    sizes = SIZES.split("; ")
    assert len(sampled) == len(sizes)
    assert all(
        distance(got, alone(model, size, solver=solver, steps=steps)) <= TOLERANCE
        for got, size in zip(sampled, sizes, strict=True)
    )


def test_every_class_method_and_size_gives_an_image(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    methods = ["none", "ntk coupled + pro2", "time-aware"]
    sweep = graph.sweep(loader[0], "1:1\n384x64", "\n".join(methods), "France; Italy", tokens=36)
    sampled = latents.each(graph, graph.sweep_sampler(loader[0], sweep[0])[0])
    wanted = [(c, m, s) for c in (FRANCE, ITALY) for m in methods for s in ("1:1 @ 36", "384x64")]
    assert len(sampled) == len(wanted)
    for got, (class_id, method, size) in zip(sampled, wanted, strict=True):
        expected = alone(model, size, class_id, extrapolation=Extrapolation.parse(method))
        assert distance(got, expected) <= TOLERANCE


def test_guidance_of_the_model_holds_for_a_pack(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    guided = graph.guided(loader[0], channels="all", power=2.0, start=0.2, end=0.8)
    sampled = latents.each(
        graph, graph.sweep_sampler(guided[0], graph.sweep(loader[0], SIZES)[0])[0]
    )
    guidance = Guidance(GUIDANCE_SCALE, power=2.0, interval=(0.2, 0.8), channels=None)
    assert all(
        distance(got, alone(model, size, guidance=guidance)) <= TOLERANCE
        for got, size in zip(sampled, SIZES.split("; "), strict=True)
    )


def test_default_keeps_the_method_chosen_before(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    chosen = graph.extrapolation(loader[0], "yarn")
    (got,) = latents.each(
        graph, graph.sweep_sampler(chosen[0], graph.sweep(chosen[0], "384x64")[0])[0]
    )
    assert distance(got, alone(model, "384x64", extrapolation=Extrapolation("yarn"))) <= TOLERANCE
    assert distance(got, alone(model, "384x64")) > 0.1


def test_a_sweep_reports_every_size_and_what_each_method_does_to_it(graph: Graph, client) -> None:
    loader = graph.loader()
    sweep = graph.sweep(
        loader[0],
        "3:2 @ 24; 384x192; 3:2 @ 24",
        "none\nntk coupled\nnone + paper",
        "France; Italy; france",
    )
    count, report = (graph.add("PreviewAny", source=sweep[slot]) for slot in (1, 2))
    run = client.run(graph.prompt)
    assert run.outputs[count.id]["text"] == ["12"]  # duplicates count once
    assert run.outputs[report.id]["text"][0].splitlines() == [
        "12 images: 6 rows × 2 columns.",
        "Model evaluations, one per image and step or more: 480, with 20 steps, the solver ab2, "
        "guidance 1.5. Images that were drawn before are not drawn again.",
        "FiT Compare Sheet puts them on one sheet.",
        "3:2 @ 24: 96 × 64 px · 6 × 4 = 24 tokens · 0.09× trained tokens (256)"
        " · 0.38× trained side (16)",
        "384x192: 384 × 192 px · 24 × 12 = 288 tokens · 1.12× trained tokens (256), beyond"
        " · 1.50× trained side (16)",
        "3:2 @ 24: ntk coupled: INACTIVE on 6 × 4 tokens, no side is longer than the trained "
        "side of 16 tokens (256 px). The image is the same as without this node.",
        "384x192: ntk coupled on 24 × 12 tokens: height ×1.5, width ×1.5 of the trained side "
        "(16 tokens).",
        "3:2 @ 24: none + paper: INACTIVE on 6 × 4 tokens, the image is too small for the "
        "attention scale. The image is the same as without this node.",
        "384x192: none + paper on 24 × 12 tokens: attention logits ×1.02.",
    ]


AXES: dict[str, Any] = {
    "classes": "France; 0.5*France + 0.5*Italy",
    "methods": "ntk; yarn coupled",
    "attention_scales": "none, pro2",
    "seeds": "1..2",
    "steps": "1, 2",
    "solvers": "euler, heun",
    "guidance_scales": "1, 2.5",
    "checkpoints": "default; FITV2_flags256",
}


def test_every_list_makes_rows_and_any_can_go_across(graph: Graph, client) -> None:
    loader = graph.loader()
    reports = {}
    for columns in ("sizes", "seeds", "guidance scales"):
        sweep = graph.sweep(loader[0], "1:1 @ 4; 32x16", columns=columns, **AXES)
        reports[columns] = graph.add("PreviewAny", source=sweep[2]).id
    run = client.run(graph.prompt)
    for node in reports.values():
        first, second, *_ = run.outputs[node]["text"][0].splitlines()
        assert first == "512 images: 256 rows × 2 columns."
        # 128 of each number of steps and solver; half of them with guidance.
        assert second.startswith(
            f"Model evaluations, one per image and step or more: {64 * 3 * (1 + 2) * (1 + 2)}. "
        )


def test_a_list_that_is_empty_can_go_across(graph: Graph, client) -> None:
    loader = graph.loader()
    reports = [
        graph.add("PreviewAny", source=graph.sweep(loader[0], "32x16", columns=columns)[2])
        for columns in (axis.replace("_", " ") for axis in AXES)
    ]
    run = client.run(graph.prompt)
    for node in reports:
        assert run.outputs[node.id]["text"][0].startswith("1 image: 1 row × 1 column.")


def test_guidance_scales_that_differ_little_have_rows_of_their_own(graph: Graph, client) -> None:
    loader = graph.loader()
    sweep = graph.sweep(loader[0], "32x16", guidance_scales="2, 2.3456781, 2.3456782")
    report = graph.add("PreviewAny", source=sweep[2])
    text = client.run(graph.prompt).outputs[report.id]["text"][0]
    assert text.startswith("3 images: 3 rows × 1 column.")


def test_names_say_only_what_differs(graph: Graph, client) -> None:
    loader = graph.loader()
    lists: dict[str, dict[str, Any]] = {
        "one": {"classes": "France"},
        "seeds": {"seeds": "3..4", "steps": "2"},
        "many": {"classes": "France; Italy", "guidance_scales": "1, 1.5", "solvers": "euler"},
        "across": {"methods": "ntk", "seeds": "3, 4", "columns": "seeds"},
        "scales": {"attention_scales": "none; paper", "checkpoints": "default; ten_classes"}
        | {"classes": "3"},
    }
    nodes = {}
    for name, changes in lists.items():
        sweep = graph.sweep(loader[0], "32x16", **changes)
        sampled = graph.sweep_sampler(loader[0], sweep[0], steps=1)
        images = graph.decoded(sampled[0])[0]
        nodes[name] = sheet(graph, images, sweep=sampled[2]).id
    run = client.run(graph.prompt)
    seen = {name: run.outputs[node]["fitv2_cells"][0] for name, node in nodes.items()}
    assert {name: (cells["rows"], cells["columns"]) for name, cells in seen.items()} == {
        "one": (["76 · France"], ["32x16"]),
        "seeds": (["seed 3", "seed 4"], ["32x16"]),
        "many": (
            [f"{c} · guidance {g}" for c in ("76 · France", "110 · Italy") for g in (1, 1.5)],
            ["32x16"],
        ),
        "across": (["76 · France"], ["seed 3", "seed 4"]),
        "scales": (
            [
                f"{c} · {a}"
                for c in ("the model", "ten_classes")
                for a in ("no attention scale", "attention scale paper")
            ],
            ["32x16"],
        ),
    }


def test_a_sweep_tells_before_sampling_that_it_needs_several_sheets(graph: Graph, client) -> None:
    loader = graph.loader()
    sweep = graph.sweep(loader[0], "1:1", seeds="1..300", columns="seeds")
    report = graph.add("PreviewAny", source=sweep[2])
    text = client.run(graph.prompt).outputs[report.id]["text"][0]
    sheets = int(text.splitlines()[2].split("on ")[1].split(" sheets")[0])
    images = graph.add("EmptyImage", width=256, height=256, batch_size=300, color=0)
    node = sheet(graph, images[0], sweep=sweep[0], picture_size=256)
    assert sheets > 1
    assert len(client.run(graph.prompt).outputs[node.id]["images"]) == sheets


def sheet(graph: Graph, images: list, **changes) -> Node:
    settings = {
        "scale": "fitted",
        "title": "",
        "picture_size": 128,
        "rows": "",
        "columns": "",
        **changes,
    }
    return graph.add("FiTCompareSheet", images=images, **settings)


def test_a_sweep_becomes_a_labelled_sheet(graph: Graph, client) -> None:
    loader = graph.loader()
    sweep = graph.sweep(loader[0], SIZES, "none\nntk")
    sampled = graph.sweep_sampler(loader[0], sweep[0], steps=2)
    node = sheet(graph, graph.decoded(sampled[0])[0], sweep=sweep[0])
    (file,) = client.run(graph.prompt).outputs[node.id]["images"]
    image = Image.open(io.BytesIO(client.fetch(file)))
    assert image.width > 4 * 128
    assert image.height > 2 * 128


def test_progress_runs_over_all_passes_and_previews_show_all_images(graph: Graph, client) -> None:
    loader = graph.loader()
    node = graph.sweep_sampler(
        loader[0], graph.sweep(loader[0], SIZES)[0], steps=4, tokens_per_pass=110, seed=50
    )
    graph.add("SaveLatent", samples=node[0], filename_prefix="latents/test")
    run = client.run(graph.prompt)
    seen = [(value, most) for id_, value, most in run.progress if id_ == node.id]
    assert [value for value, _ in seen if value] == list(range(1, 9))
    assert {most for _, most in seen} == {8}
    previews = [Image.open(io.BytesIO(preview)) for preview in run.previews]
    # The host resizes every preview; its ratio tells how many images stand side by side, a pixel
    # apart.
    sizes = [parse_size(size, 256).latent_size for size in SIZES.split("; ")]
    first_two, all_four = (
        (sum(w for _, w in some) + len(some) - 1) / max(h for h, _ in some)
        for some in (sizes[:2], sizes)
    )
    assert [p.width / p.height for p in previews] == pytest.approx(
        [first_two] * 4 + [all_four] * 4, rel=0.02
    )
    # Four images side by side: half of ComfyUI's 512 pixels for each.
    assert max(previews[-1].size) == 1024


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": "1:1; big"}, "'big' is not a size"),
        ({"sizes": " ; "}, "sizes is empty"),
        ({"methods": "ntkk"}, "'ntkk' is unknown"),
        ({"methods": "ntk sideways"}, "'ntk sideways' is not an extrapolation"),
        ({"classes": "Finlund"}, "Finland"),
        ({"seeds": "one"}, "seeds: 'one' is no number"),
        ({"steps": "0"}, "steps: 0 is outside of 1 to 1000"),
        ({"solvers": "dopri5"}, "solvers: 'dopri5' is unknown. Choose from euler, heun"),
        ({"guidance_scales": "30"}, "guidance_scales: 30 is outside of 0 to 20"),
        ({"attention_scales": "pro3"}, "attention_scales: 'pro3' is unknown"),
        (
            {"attention_scales": "pro1", "methods": "ntk + pro2"},
            "Write attention scales in one of the two lists only",
        ),
        ({"checkpoints": "nothing"}, "no file of FiT Loader is called 'nothing'"),
        ({"checkpoints": "ten_classes", "classes": "France"}, "In ten_classes.safetensors: No"),
        ({"seeds": "1..900", "steps": "1..10"}, "9000 images; a sweep has at most 4096"),
    ],
)
def test_a_sweep_explains_what_it_cannot_read(
    graph: Graph, client, changes: dict, message: str
) -> None:
    loader = graph.loader()
    graph.add("PreviewAny", source=graph.sweep(loader[0], **{"sizes": "1:1", **changes})[2])
    with pytest.raises(PromptError, match=message):
        client.run(graph.prompt)


def blank_images(graph: Graph, *sizes: tuple[int, int]) -> list:
    """A list of blank images."""
    lists = [
        graph.add("EmptyImage", width=width, height=height, batch_size=1, color=0xFF0000)
        for width, height in sizes
    ]
    node = lists[0]
    for other in lists[1:]:
        node = graph.add("ImageBatch", image1=node[0], image2=other[0])
    return node[0]


def test_names_given_by_hand_label_rows_and_columns(graph: Graph, client) -> None:
    node = sheet(
        graph, blank_images(graph, *[(64, 64)] * 6), rows="a; b", columns="x\ny\nz", title="Six"
    )
    (file,) = client.run(graph.prompt).outputs[node.id]["images"]
    pixels = np.asarray(Image.open(io.BytesIO(client.fetch(file))).convert("RGB")).astype(int)
    red = (pixels - [255, 0, 0]).__abs__().max(-1) < 8
    assert red.sum() == pytest.approx(6 * 128 * 128, rel=0.02)


def test_a_count_that_does_not_fit_the_names_is_refused(graph: Graph, client) -> None:
    sheet(graph, blank_images(graph, *[(64, 64)] * 5), rows="a; b", columns="x; y; z")
    with pytest.raises(PromptError, match="5 images do not fill 2 rows × 3 columns = 6"):
        client.run(graph.prompt)


# What these nodes do to an image depends on all of it. With momentum APG also remembers the image.
WHOLE_IMAGE_NODES = {
    "RescaleCFG": {"multiplier": 0.7},
    "APG": {"eta": 0.5, "norm_threshold": 2.0, "momentum": -0.5},
    "CFGZeroStar": {},
    "CFGNorm": {"strength": 1.0, "pre_cfg": False},
    "FreSca": {"scale_low": 1.0, "scale_high": 1.5, "freq_cutoff": 3},
    "TCFG": {},
    "Mahiro": {},
    "SkipLayerGuidanceDiTSimple": {
        "double_layers": "2",
        "single_layers": "",
        "start_percent": 0.0,
        "end_percent": 1.0,
    },
    "EasyCache": {
        "reuse_threshold": 0.2,
        "start_percent": 0.15,
        "end_percent": 0.95,
        "verbose": False,
    },
    "RenormCFG": {"cfg_trunc": 100.0, "renorm_cfg": 1.0},
}


@pytest.mark.cases("P3")
def test_nodes_that_look_at_a_whole_image_see_each_alone(graph: Graph, latents) -> None:
    loader = graph.loader()
    sizes = ["3:1 @ 40", "2:3 @ 64"]
    sweep = graph.sweep(loader[0], "; ".join(sizes), methods="none")
    empty = [graph.size(r.width, r.height) for r in (parse_size(size, 256) for size in sizes)]
    label = graph.label(loader[0])

    together = [graph.sweep_sampler(loader[0], sweep[0])]
    alone = []
    for node, inputs in WHOLE_IMAGE_NODES.items():
        patched = graph.add(node, model=loader[0], **inputs)
        together.append(graph.sweep_sampler(patched[0], sweep[0]))
        alone += [graph.fit_sampler(patched[0], label, latent[0]) for latent in empty]
    plain, *packs = latents.of_all(graph, [node[0] for node in together])
    expected = iter(latents.of_all(graph, [node[0] for node in alone]))
    for node, images in zip(WHOLE_IMAGE_NODES, packs, strict=True):
        for image, unpatched, (single,) in zip(images, plain, expected, strict=False):
            assert distance(image, single) <= TOLERANCE, node
            if node != "EasyCache":  # four steps are too few to skip one
                assert distance(image, unpatched) > 1e-3, node


@pytest.mark.cases("P5")
def test_more_rows_than_fit_on_a_sheet_go_on_several(graph: Graph, client) -> None:
    image = graph.add("EmptyImage", width=64, height=64, batch_size=160, color=0xFF0000)
    node = sheet(
        graph, image[0], columns="a; b", rows="\n".join(f"row {i}" for i in range(80)), title="T"
    )
    saved = graph.add("SaveImage", images=node[0], filename_prefix="sheets")
    run = client.run(graph.prompt)
    assert len(run.outputs[node.id]["images"]) == len(run.outputs[saved.id]["images"]) > 1
    for file in run.outputs[saved.id]["images"]:
        assert max(Image.open(io.BytesIO(client.fetch(file))).size) <= 4096

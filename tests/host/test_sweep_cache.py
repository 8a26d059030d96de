"""A sweep draws what it has not drawn before, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from host.reference import FRANCE, TOLERANCE, distance
from safetensors.torch import save_file
from support.graph import GUIDANCE_SCALE, STEPS, Graph

from comfyui_fitv2 import FiT, sample
from comfyui_fitv2.resolution import parse_size
from devkit.client import Client

# All with a side beyond the trained 16 tokens, so that no two methods draw the same.
WIDE = [f"{16 * columns}x16" for columns in range(17, 24)]
METHODS = ["none", "ntk", "linear", "yarn"]
OF_AN_IMAGE = STEPS * 2
"""Model evaluations: euler takes one per step, with the class and without."""


@pytest.fixture
def evaluations(client: Client) -> Callable[[], int]:
    """How often models evaluated an image since the last call."""
    before = client.get("/fit_test/counts")["evaluations"]

    def since() -> int:
        nonlocal before
        now = client.get("/fit_test/counts")["evaluations"]
        before, past = now, before
        return now - past

    return since


def free(client: Client) -> dict:
    """What ComfyUI's button "Free model and node cache" does; returns the counts afterwards."""
    deadline = time.monotonic() + 60
    counts: dict = {}
    while time.monotonic() < deadline:
        # Again, because ComfyUI overlooks it while it finishes a prompt.
        client.post("/free", {"unload_models": True, "free_memory": True})
        time.sleep(0.2)
        counts = client.get("/fit_test/counts")
        if not counts["asked_to_free"] and not counts["kept"]:
            return counts
    raise AssertionError(f"not freed: {counts}")


@pytest.fixture(autouse=True)
def _nothing_kept(client: Client) -> None:
    assert free(client)["bytes"] == 0


def drawn(graph: Graph, latents, sizes: str, methods: str = "none", **changes) -> list:
    """The latents of a sweep of France with one loader."""
    loader = graph.loader()
    more = {name: changes.pop(name) for name in ("seeds", "columns") if name in changes}
    sweep = graph.sweep(loader[0], sizes, methods, **more)
    return latents.each(graph, graph.sweep_sampler(loader[0], sweep[0], **changes)[0])


@pytest.mark.parametrize("weight_dtype", ["fp32", "bf16"])
def test_a_cell_does_not_depend_on_its_neighbours(
    client, latents, server, weight_dtype: str
) -> None:
    """The tolerance: what rounding does to an image that is drawn alone or in any pack.

    The values of latents are around 1 in size. In bf16 a number has three digits.
    """
    tolerance = {"fp32": TOLERANCE, "bf16": 0.1}[weight_dtype]
    images = []
    for sizes in (
        "3:2 @ 54",
        "3:2 @ 54; 1:1 @ 64; 384x32",
        "1:3 @ 40; 3:2 @ 54",
        "2:1 @ 8; 3:2 @ 54",
    ):
        graph = Graph()
        loader = graph.loader(weight_dtype=weight_dtype)
        sweep = graph.sweep(loader[0], sizes, "none")
        of_sweep = latents.each(graph, graph.sweep_sampler(loader[0], sweep[0])[0])
        images.append(of_sweep[sizes.split("; ").index("3:2 @ 54")])
        free(client)
    alone, *packed = images
    assert all(distance(alone, image) <= tolerance for image in packed)


def test_one_method_changed_draws_its_row_alone(latents, evaluations) -> None:
    sizes = "\n".join(WIDE)
    first = drawn(Graph(), latents, sizes, "\n".join(METHODS))
    assert evaluations() == 28 * OF_AN_IMAGE
    again = drawn(Graph(), latents, sizes, "\n".join([*METHODS[:3], "frequency-aware"]))
    assert evaluations() == 7 * OF_AN_IMAGE
    assert all(torch.equal(a, b) for a, b in zip(first[:21], again[:21], strict=True))
    assert all(distance(a, b) > 1e-3 for a, b in zip(first[21:], again[21:], strict=True))
    drawn(Graph(), latents, "\n".join(WIDE[::-1]), "\n".join(METHODS[::-1]), columns="methods")
    assert evaluations() == 0


def test_a_sweep_that_was_stopped_goes_on(client, latents, evaluations) -> None:
    def interrupt(kind: str, data: dict) -> None:
        if kind == "progress" and data["value"] == 2 * STEPS + 1:
            client.interrupt()

    settings = {"seed": 8, "tokens_per_pass": sum(range(17, 24))}  # a row at a time
    graph = Graph()
    loader = graph.loader()
    sweep = graph.sweep(loader[0], "\n".join(WIDE), "\n".join(METHODS))
    sampled = graph.sweep_sampler(loader[0], sweep[0], **settings)
    graph.add("SaveLatent", samples=sampled[0], filename_prefix="latents/test")
    assert client.run(graph.prompt, interrupt).interrupted
    assert evaluations() < 28 * OF_AN_IMAGE
    drawn(Graph(), latents, "\n".join(WIDE), "\n".join(METHODS), **settings)
    assert evaluations() == 14 * OF_AN_IMAGE


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"seed": 9}, OF_AN_IMAGE),
        ({"steps": STEPS + 1}, 2 * (STEPS + 1)),
        ({"solver": "heun"}, 2 * OF_AN_IMAGE),
        ({"guidance": 1.0}, STEPS),
        ({"guidance": GUIDANCE_SCALE + 0.5}, OF_AN_IMAGE),
        ({"tokens_per_pass": 1}, 0),
        ({}, 0),
    ],
)
def test_other_settings_are_another_image(latents, evaluations, changes: dict, anew: int) -> None:
    before = drawn(Graph(), latents, "96x64")
    evaluations()
    after = drawn(Graph(), latents, "96x64", **changes)
    assert evaluations() == anew
    assert (distance(before[0], after[0]) > 1e-3) == bool(anew)


def test_another_class_is_another_image(latents, evaluations) -> None:
    graph = Graph()
    loader = graph.loader()
    sweep = graph.sweep(
        loader[0], "96x64", "none", "France; France + Italy; Italy; 0.5*Italy + 0.5*France"
    )
    images = latents.each(graph, graph.sweep_sampler(loader[0], sweep[0])[0])
    assert evaluations() == 3 * OF_AN_IMAGE
    assert distance(images[0], images[1]) > 1e-2
    assert torch.equal(images[1], images[3])


def test_methods_that_are_inactive_are_drawn_once(latents, evaluations) -> None:
    images = drawn(Graph(), latents, "96x64; 64x96", "none; ntk; yarn coupled")
    assert evaluations() == 2 * OF_AN_IMAGE
    assert torch.equal(images[0], images[2])


ROPE = dict.fromkeys(("shift_x", "shift_y", "shift_t"), 0.0) | {"scale_y": 1.0, "scale_t": 1.0}
PATCHES: dict[str, list[dict]] = {
    "LoraLoaderModelOnly": [
        {"lora_name": "sweep.safetensors", "strength_model": s} for s in (1, 2)
    ],
    "ModelMergeSimple": [{"ratio": r} for r in (0.0, 0.5)],
    "ScaleROPE": [{"scale_x": s, **ROPE} for s in (1.5, 2.0)],
    "FiTGuidance": [
        {"channels": c, "power": p, "start": 0.0, "end": 1.0}
        for c, p in (("all", 0.0), ("first three", 2.0))
    ],
    "RescaleCFG": [{"multiplier": m} for m in (0.7, 0.9)],
    "EasyCache": [
        {"reuse_threshold": t, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
        for t in (0.2, 3.0)
    ],
    "ModelSamplingSD3": [{"shift": s} for s in (1.0, 2.0)],
}


@pytest.mark.parametrize("patch", PATCHES)
def test_a_patched_model_never_gets_another_ones_image(
    latents, server, evaluations, model: FiT, patch: str
) -> None:
    layer, (out, width) = "final_layer.linear", model.final_layer.linear.weight.shape
    shapes = {"up": (out, 4), "down": (4, width)}
    lora = {
        f"diffusion_model.{layer}.lora_{side}.weight": torch.randn(shape) * 0.1
        for side, shape in shapes.items()
    }
    save_file(lora, server.base / "models" / "loras" / "sweep.safetensors")
    graph = Graph()
    loader = graph.loader()
    if patch == "ModelMergeSimple":
        inputs = {"model1": loader[0], "model2": graph.loader("ten_classes.safetensors")[0]}
    else:
        inputs = {"model": loader[0]}
    sizes = "96x64; 64x96"
    sweep = graph.sweep(loader[0], sizes, "none")
    models = [graph.add(patch, **inputs, **settings) for settings in PATCHES[patch]]
    sampled = [graph.sweep_sampler(node[0], sweep[0]) for node in (loader, *models)]
    label = graph.label(loader[0])
    alone = [graph.fit_sampler(m[0], label, graph.size(96, 64)[0]) for m in (loader, *models)]
    packs = latents.of_all(graph, [node[0] for node in sampled])
    expected = latents.of_all(graph, [node[0] for node in alone])
    assert all(
        distance(pack[0], one[0]) <= TOLERANCE for pack, one in zip(packs, expected, strict=True)
    )
    if patch not in ("EasyCache", "ModelSamplingSD3"):
        assert distance(packs[0][0], packs[1][0]) > 1e-3
    assert distance(packs[1][0], packs[2][0]) > 0 or patch in ("EasyCache", "ModelSamplingSD3")
    # The same objects again: what was put on the model is what it was.
    evaluations()
    latents.of_all(
        graph,
        [graph.sweep_sampler(n[0], sweep[0], tokens_per_pass=99)[0] for n in (loader, *models)],
    )
    assert evaluations() == 0


def test_checkpoints_are_drawn_each_with_its_own_weights(latents, evaluations) -> None:
    names = ["fitv2_flags256.safetensors", "ten_classes.safetensors"]
    graph = Graph()
    others = [graph.loader(name) for name in names]
    alone = [
        graph.fit_sampler(other[0], graph.label(other[0], "3"), graph.size(96, 64)[0])
        for other in others
    ]
    expected = latents.of_all(graph, [node[0] for node in alone])
    evaluations()

    def sweep(text: str) -> list:
        graph = Graph()
        loader = graph.loader()
        node = graph.sweep(loader[0], "96x64", "none", "3", checkpoints=text)
        return latents.each(graph, graph.sweep_sampler(loader[0], node[0])[0])

    got = sweep("fitv2_flags256; ten_classes")
    assert evaluations() == 2 * OF_AN_IMAGE
    assert all(distance(a, b[0]) <= TOLERANCE for a, b in zip(got, expected, strict=True))
    assert sweep("ten_classes; FITV2_FLAGS256.safetensors")
    assert evaluations() == 0


@pytest.mark.parametrize("solver", ["euler", "sde-euler"])
def test_every_seed_of_a_pack_gives_the_image_it_would_alone(
    latents, evaluations, model: FiT, solver: str
) -> None:
    got = drawn(Graph(), latents, "144x96; 96x144", seeds="3..5", solver=solver)
    assert evaluations() == 6 * OF_AN_IMAGE
    for place, image in enumerate(got):
        seed, size = 3 + place // 2, ("144x96", "96x144")[place % 2]
        start = torch.randn(
            1, 4, *parse_size(size, 256).latent_size, generator=torch.manual_seed(seed)
        )
        settings: dict[str, Any] = {"guidance": GUIDANCE_SCALE}
        if solver == "sde-euler":
            generator = torch.Generator().manual_seed(seed + 1)
            settings["noise_source"] = partial(_noise_like, generator)
        y = torch.tensor([FRANCE])
        expected = sample(model, start, y, solver, STEPS, **settings)
        assert distance(image, expected) <= TOLERANCE


def _noise_like(generator: torch.Generator, x: torch.Tensor) -> torch.Tensor:
    return torch.randn(x.shape, generator=generator)

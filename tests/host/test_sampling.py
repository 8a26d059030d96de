"""A FiT with the host's samplers gives the latents that ``comfyui_fitv2.sample`` gives."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from host.reference import (
    FINLAND,
    FRANCE,
    HEIGHT,
    ITALY,
    TOLERANCE,
    WIDTH,
    distance,
    noise,
    relative,
    sampled,
    solver_noise,
)
from PIL import Image
from support.graph import GUIDANCE_SCALE, STEPS, Graph

from comfyui_fitv2 import FiT, sample
from comfyui_fitv2.flow import shift_sigma
from comfyui_fitv2.guidance import Guidance, guided_velocity
from comfyui_fitv2.solvers import SOLVERS, sampling_sigmas


@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_euler_gives_the_same_latents_as_sample(
    graph: Graph, latents, model: FiT, sampler: str, guidance: float
) -> None:
    loader = graph.loader()
    scale = {"guidance": guidance} if sampler == "fit_sampler" else {"cfg": guidance}
    node = getattr(graph, sampler)(loader[0], graph.label(loader[0]), graph.size()[0], **scale)
    assert distance(latents(graph, node[0]), sampled(model, guidance=guidance)) <= TOLERANCE


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_gives_the_same_latents_as_sample(
    graph: Graph, latents, model: FiT, solver: str
) -> None:
    loader = graph.loader()
    node = graph.fit_sampler(
        loader[0], graph.label(loader[0]), graph.size(96, 64)[0], solver=solver, steps=6
    )
    options = solver_noise() if SOLVERS[solver].stochastic else {}
    expected = sample(
        model, noise(height=8, width=12), torch.tensor([FRANCE]), solver, 6, 2.0, **options
    )
    # Some evaluate the model at t = 1 here, and just before it in the host.
    assert distance(latents(graph, node[0]), expected) <= (
        1e-3 if solver in ("heun", "rk4", "dopri5") else TOLERANCE
    )


def test_a_batch_of_three_labels_gives_an_image_of_each(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    label = graph.label(loader[0], "France; Italy; 75")
    size = graph.size(batch_size=3)
    expected = sampled(model, FRANCE, ITALY, FINLAND)
    for node in (
        graph.fit_sampler(loader[0], label, size[0]),
        graph.ksampler(loader[0], label, size[0]),
    ):
        assert distance(latents(graph, node[0]), expected) <= TOLERANCE


def test_fewer_labels_than_images_repeat_from_the_first(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    node = graph.ksampler(
        loader[0], graph.label(loader[0], "France; Italy"), graph.size(batch_size=3)[0]
    )
    assert distance(latents(graph, node[0]), sampled(model, FRANCE, ITALY, FRANCE)) <= TOLERANCE


def test_the_label_count_sets_the_batch(graph: Graph, latents) -> None:
    loader = graph.loader()
    label = graph.label(loader[0], "France; Italy; Finland; Japan")
    count: Any = label[3]
    node = graph.fit_sampler(loader[0], label, graph.size(batch_size=count)[0], steps=1)
    assert latents(graph, node[0]).shape == (4, 4, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def solution(model: FiT) -> torch.Tensor:
    return sampled(model, solver="heun", steps=40)


@pytest.mark.parametrize(
    ("sampler_name", "scheduler", "off_by"),
    [
        ("heun", "simple", 0.05),
        ("dpmpp_2m", "simple", 0.15),
        ("uni_pc", "simple", 0.15),
        ("deis", "normal", 0.15),
        ("res_multistep", "sgm_uniform", 0.15),
    ],
)
def test_stock_ode_samplers_reach_the_solution(
    graph: Graph, latents, solution: torch.Tensor, sampler_name: str, scheduler: str, off_by: float
) -> None:
    loader = graph.loader()
    node = graph.ksampler(
        loader[0],
        graph.label(loader[0]),
        graph.size()[0],
        steps=20,
        sampler_name=sampler_name,
        scheduler=scheduler,
    )
    assert relative(latents(graph, node[0]), solution) < off_by


@pytest.mark.parametrize(
    "sampler_name", ["euler_ancestral", "dpmpp_2m_sde", "lcm", "ddim", "er_sde", "euler_cfg_pp"]
)
def test_other_stock_samplers_give_an_image_of_the_class(
    graph: Graph, client, sampler_name: str
) -> None:
    loader = graph.loader()
    node = graph.ksampler(
        loader[0],
        graph.label(loader[0]),
        graph.size(304, 208)[0],
        steps=12,
        sampler_name=sampler_name,
        cfg=1.5,
    )
    assert mean_colours(graph, client, node[0])["right third"][0] > 0.6  # France ends in red


def test_custom_sampling_equals_ksampler(graph: Graph, latents) -> None:
    loader = graph.loader()
    label, size = graph.label(loader[0]), graph.size()
    node = graph.add(
        "SamplerCustomAdvanced",
        noise=graph.add("RandomNoise", noise_seed=7)[0],
        guider=graph.add(
            "CFGGuider", model=loader[0], positive=label[0], negative=label[1], cfg=2.0
        )[0],
        sampler=graph.add("KSamplerSelect", sampler_name="euler")[0],
        sigmas=graph.add(
            "BasicScheduler", model=loader[0], scheduler="simple", steps=STEPS, denoise=1.0
        )[0],
        latent_image=size[0],
    )
    assert (
        distance(
            latents(graph, node[0]), latents(graph, graph.ksampler(loader[0], label, size[0])[0])
        )
        == 0
    )


@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
def test_odd_latent_sizes_come_back_whole(graph: Graph, latents, model: FiT, sampler: str) -> None:
    loader = graph.loader()
    odd = graph.add(
        "EmptyLatentImage", width=264, height=136, batch_size=1
    )  # 17 × 33 latent pixels
    got = latents(graph, getattr(graph, sampler)(loader[0], graph.label(loader[0]), odd[0])[0])

    # The same by hand: the first row and column follow the last ones, and are cut off again.
    y, times = torch.tensor([FRANCE]), 1 - sampling_sigmas(STEPS)
    velocity = guided_velocity(model, y, Guidance(GUIDANCE_SCALE))
    x = noise(height=17, width=33)
    with torch.no_grad():
        for t, t_next in pairwise(times):
            padded = torch.nn.functional.pad(x, (0, 1, 0, 1), mode="circular")
            x = x + (t_next - t) * velocity(padded, t)[..., :17, :33]
    assert distance(got, x) <= TOLERANCE


def test_image_to_image_equals_sample_from_latents(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    first = graph.fit_sampler(loader[0], graph.label(loader[0]), graph.size()[0])
    start = latents(graph, first[0])
    second = graph.fit_sampler(loader[0], graph.label(loader[0], "Italy"), first[0], denoise=0.6)
    expected = sampled(model, ITALY, latents=start, denoise=0.6)
    assert distance(latents(graph, second[0]), expected) <= TOLERANCE


def test_image_to_image_with_ksampler_keeps_more_at_less_denoise(graph: Graph, latents) -> None:
    loader = graph.loader()
    first = graph.fit_sampler(loader[0], graph.label(loader[0], "Japan"), graph.size()[0])
    start = latents(graph, first[0])
    italy = graph.label(loader[0], "Italy")
    kept = [
        relative(latents(graph, graph.ksampler(loader[0], italy, first[0], denoise=d)[0]), start)
        for d in (0.2, 0.6, 1.0)
    ]
    assert kept[0] < kept[1] < kept[2]


@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
def test_inpainting_leaves_the_kept_area_as_it_was(graph: Graph, latents, sampler: str) -> None:
    loader = graph.loader()
    first = graph.fit_sampler(loader[0], graph.label(loader[0]), graph.size()[0])
    start = latents(graph, first[0])
    canvas = graph.add("SolidMask", value=0.0, width=192, height=128)
    hole = graph.add("SolidMask", value=1.0, width=96, height=128)
    mask = graph.add(
        "MaskComposite", destination=canvas[0], source=hole[0], x=96, y=0, operation="add"
    )
    masked = graph.add("SetLatentNoiseMask", samples=first[0], mask=mask[0])
    got = latents(
        graph, getattr(graph, sampler)(loader[0], graph.label(loader[0], "Brazil"), masked[0])[0]
    )
    assert distance(got[..., :12], start[..., :12]) <= 1e-5
    assert relative(got[..., 12:], start[..., 12:]) > 0.3


def mean_colours(graph: Graph, client, samples: list) -> dict[str, list[float]]:
    """Mean RGB in 0..1 of the left and right third of the first image."""
    saved = graph.add("SaveImage", images=graph.decoded(samples)[0], filename_prefix="test")
    (file, *_) = client.run(graph.prompt).outputs[saved.id]["images"]
    pixels = np.asarray(Image.open(io.BytesIO(client.fetch(file))).convert("RGB")) / 255
    third = pixels.shape[1] // 3
    return {
        "left third": pixels[:, :third].mean((0, 1)).tolist(),
        "right third": pixels[:, -third:].mean((0, 1)).tolist(),
    }


def test_area_conditioning_puts_each_class_in_its_area(graph: Graph, client) -> None:
    loader = graph.loader()
    brazil, sweden = graph.label(loader[0], "Brazil"), graph.label(loader[0], "Sweden")

    def half(label, x: int) -> list:
        return graph.add(
            "ConditioningSetArea",
            conditioning=label[0],
            width=256,
            height=256,
            x=x,
            y=0,
            strength=1.0,
        )[0]

    both = graph.add(
        "ConditioningCombine", conditioning_1=half(brazil, 0), conditioning_2=half(sweden, 256)
    )
    node = graph.ksampler(loader[0], brazil, graph.size(512, 256)[0], positive=both[0], steps=12)
    colours = mean_colours(graph, client, node[0])
    red, green, blue = colours["left third"]
    assert green > blue + 0.15  # Brazil is green
    red, green, blue = colours["right third"]
    assert blue > red + 0.1  # Sweden is blue


@pytest.mark.parametrize(
    ("node", "shift"),
    [("ModelSamplingSD3", 1.0), ("ModelSamplingSD3", 3.0), ("ModelSamplingAuraFlow", 3.0)],
)
def test_a_shifted_schedule_reaches_the_model_as_its_own_time(
    graph: Graph, latents, model: FiT, node: str, shift: float
) -> None:
    loader = graph.loader()
    shifted = graph.add(node, model=loader[0], shift=shift)
    got = latents(graph, graph.ksampler(shifted[0], graph.label(loader[0]), graph.size()[0])[0])
    velocity = guided_velocity(model, torch.tensor([FRANCE]), Guidance(GUIDANCE_SCALE))
    times = 1 - shift_sigma(sampling_sigmas(STEPS), shift)
    with torch.no_grad():
        expected = SOLVERS["euler"].integrate(velocity, noise(), times)
    assert distance(got, expected) <= TOLERANCE


def test_zeroed_conditioning_is_the_null_class(graph: Graph, latents) -> None:
    loader = graph.loader()
    label, size = graph.label(loader[0]), graph.size()
    zeroed = graph.add("ConditioningZeroOut", conditioning=label[0])
    by_node = graph.ksampler(loader[0], label, size[0], negative=zeroed[0])
    assert (
        distance(
            latents(graph, by_node[0]), latents(graph, graph.ksampler(loader[0], label, size[0])[0])
        )
        == 0
    )


@pytest.mark.parametrize("weight_dtype", ["bf16", "fp16", "auto"])
def test_other_weight_dtypes_give_nearly_the_same_latents(
    graph: Graph, latents, model: FiT, weight_dtype: str
) -> None:
    loader = graph.loader(weight_dtype=weight_dtype)
    node = graph.fit_sampler(loader[0], graph.label(loader[0]), graph.size()[0])
    assert relative(latents(graph, node[0]), sampled(model)) < 0.05

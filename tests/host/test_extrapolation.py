"""Extrapolation, guidance, solvers and schedules in the host equal those of ``sample``."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from host.reference import FRANCE, TOLERANCE, distance, noise, sampled, solver_noise
from support.graph import BUNDLED, GUIDANCE_SCALE, STEPS, Graph, Node
from torch import Tensor

from comfyui_fitv2 import Extrapolation, FiT, Guidance, sample
from comfyui_fitv2.extrapolation import ALL_METHODS
from comfyui_fitv2.sampling import resolution_shift
from devkit.client import PromptError

# 24 × 4 tokens, beyond the 16 of the training on one side.
WIDTH, HEIGHT = 384, 64


def expected(
    model: FiT, extrapolation: Extrapolation, steps: int = STEPS, class_id: int = FRANCE
) -> Tensor:
    start, y = noise(height=HEIGHT // 8, width=WIDTH // 8), torch.tensor([class_id])
    return sample(model, start, y, "euler", steps, GUIDANCE_SCALE, extrapolation)


def ksampler(
    graph: Graph, loader: Node, model: list, steps: int = STEPS, class_id: int = FRANCE
) -> list:
    return graph.ksampler(
        model, graph.label(loader[0], str(class_id)), graph.size(WIDTH, HEIGHT)[0], steps=steps
    )[0]


@pytest.mark.parametrize("method", ALL_METHODS)
def test_every_method_equals_sample(graph: Graph, latents, model: FiT, method: str) -> None:
    loader = graph.loader()
    node = graph.extrapolation(loader[0], method, attention_scale="pro2")
    got = latents(graph, ksampler(graph, loader, node[0]))
    assert (
        distance(got, expected(model, Extrapolation(method, attention_scale="pro2"))) <= TOLERANCE
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_branches_with_different_methods_never_see_each_others_tables(
    graph: Graph, latents, one_block: FiT, compiled: bool
) -> None:
    if compiled and shutil.which("g++") is None and shutil.which("cl") is None:
        pytest.skip("torch.compile needs a C++ compiler, and this machine has none")
    loader = graph.loader("one_block.safetensors")
    source = (
        graph.add("TorchCompileModel", model=loader[0], backend="inductor") if compiled else loader
    )
    coupled = {"yarn": False, "ntk": True}
    branches = {
        method: graph.extrapolation(source[0], method, decoupled=decoupled)
        for method, decoupled in coupled.items()
    }
    plain = expected(one_block, Extrapolation(), class_id=3)
    tolerance = 5e-4 if compiled else TOLERANCE
    # The third with other steps, because the server caches results.
    for method, steps in (("yarn", 4), ("ntk", 4), ("yarn", 5)):
        got = latents(graph, ksampler(graph, loader, branches[method][0], steps, class_id=3))
        assert (
            distance(
                got,
                expected(one_block, Extrapolation(method, coupled[method]), steps, class_id=3),
            )
            <= tolerance
        )
        assert distance(got, plain) > 5 * tolerance
    assert (
        distance(latents(graph, ksampler(graph, loader, source[0], class_id=3)), plain) <= tolerance
    )


def report(graph: Graph, client, output: list) -> str:
    shown = graph.add("PreviewAny", source=output)
    return client.run(graph.prompt).outputs[shown.id]["text"][0]


@pytest.mark.parametrize(
    ("size", "method", "scale", "text"),
    [
        (
            (192, 128),
            "ntk",
            "none",
            "ntk: INACTIVE on 12 × 8 tokens, no side is longer than the trained side of 16 tokens "
            "(256 px)",
        ),
        ((576, 192), "none", "none", "none: INACTIVE on 36 × 12 tokens, no method is chosen"),
        (
            (576, 192),
            "ntk",
            "none",
            "ntk on 36 × 12 tokens: height ×1, width ×2.25 of the trained side (16 tokens).",
        ),
        (
            (512, 512),
            "yarn",
            "paper",
            "yarn + paper on 32 × 32 tokens: height ×2, width ×2 of the trained side (16 tokens); "
            "attention logits ×1.43",
        ),
        (
            (304, 256),
            "riflex",
            "none",
            "riflex: INACTIVE on 19 × 16 tokens, riflex acts only on longer sides.",
        ),
        (
            (512, 256),
            "riflex",
            "none",
            "riflex on 32 × 16 tokens: height ×1, width ×2 of the trained side (16 tokens).",
        ),
        (
            None,
            "linear",
            "none",
            "linear: acts on sides longer than the trained side of 16 tokens (256 px).",
        ),
        (
            None,
            "auto",
            "none",
            "auto: acts on sides longer than the trained side of 16 tokens (256 px): linear.",
        ),
        (
            (192, 128),
            "auto",
            "none",
            "auto: INACTIVE on 12 × 8 tokens, no side is longer than the trained side of 16",
        ),
        (
            (576, 192),
            "auto",
            "none",
            "auto chooses linear on 36 × 12 tokens: height ×1, width ×2.25 of the trained side",
        ),
    ],
)
def test_the_report_says_what_a_method_does(
    graph: Graph, client, size, method: str, scale: str, text: str
) -> None:
    latent = {} if size is None else {"latent": graph.size(*size)[0]}
    node = graph.extrapolation(graph.loader()[0], method, attention_scale=scale, **latent)
    assert text in report(graph, client, node[1])


@pytest.mark.parametrize(
    ("checkpoint", "method"), [(BUNDLED, "linear"), ("ten_classes.safetensors", "ntk")]
)
def test_auto_draws_what_the_checkpoint_recommends_or_else_ntk(
    graph: Graph, latents, client, checkpoint: str, method: str
) -> None:
    loader = graph.loader(checkpoint)
    auto, same, plain = (
        latents(graph, ksampler(graph, loader, model, class_id=3))
        for model in (
            graph.extrapolation(loader[0], "auto")[0],
            graph.extrapolation(loader[0], method)[0],
            graph.extrapolation(loader[0], "none")[0],
        )
    )
    assert distance(auto, same) <= TOLERANCE
    assert distance(auto, plain) > 10 * TOLERANCE
    info = client.get("/object_info/FiTExtrapolation")["FiTExtrapolation"]["input"]["required"][
        "method"
    ]
    assert info[1]["default"] == "auto"


def test_an_inactive_method_changes_nothing(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    node = graph.extrapolation(loader[0], "yarn")
    assert (
        distance(
            latents(graph, graph.ksampler(node[0], graph.label(loader[0]), graph.size()[0])[0]),
            sampled(model),
        )
        <= TOLERANCE
    )


ALL_SETTINGS = (
    {"channels": "all", "power": 2.0, "start": 0.1, "end": 0.9},
    {"channels": None, "power": 2.0, "interval": (0.1, 0.9)},
)


@pytest.mark.parametrize(
    ("sampler", "settings", "arguments"),
    [
        ("ksampler", {"power": 1.5}, {"power": 1.5}),
        ("ksampler", {"start": 0.2, "end": 0.7}, {"interval": (0.2, 0.7)}),
        ("ksampler", {"channels": "all"}, {"channels": None}),
        ("ksampler", *ALL_SETTINGS),
        ("fit_sampler", *ALL_SETTINGS),
    ],
)
def test_guidance_equals_sample(
    graph: Graph,
    latents,
    model: FiT,
    sampler: str,
    settings: dict[str, Any],
    arguments: dict[str, Any],
) -> None:
    loader = graph.loader()
    node = graph.guided(loader[0], **settings)
    got = latents(
        graph, getattr(graph, sampler)(node[0], graph.label(loader[0]), graph.size()[0])[0]
    )
    guidance = Guidance(GUIDANCE_SCALE, **arguments)
    assert distance(got, sampled(model, guidance=guidance)) <= TOLERANCE


def test_of_two_guidance_nodes_the_last_counts(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    first = graph.guided(loader[0], channels="all", power=3.0, start=0.3, end=0.4)
    got = latents(
        graph, graph.ksampler(graph.guided(first[0])[0], graph.label(loader[0]), graph.size()[0])[0]
    )
    assert distance(got, sampled(model)) <= TOLERANCE


def scheduler(graph: Graph, model: list, steps: int, **changes) -> Node:
    return graph.add(
        "FiTScheduler",
        model=model,
        **{"steps": steps, "schedule": "uniform", "denoise": 1.0, "last_step_size": 0.0, **changes},
    )


def test_solver_and_scheduler_nodes_equal_sample(graph: Graph, latents, model: FiT) -> None:
    loader, size = graph.loader(), graph.size(384, 256)
    sigmas = scheduler(graph, loader[0], 5, schedule="resolution-shifted", latent=size[0])
    got = latents(
        graph,
        graph.custom(loader[0], graph.label(loader[0]), size[0], graph.solver("ab2")[0], sigmas[0])[
            0
        ],
    )
    shift = resolution_shift(384, 256)
    start = noise(height=32, width=48)
    same = sample(model, start, torch.tensor([FRANCE]), "ab2", 5, GUIDANCE_SCALE, shift=shift)
    assert distance(got, same) <= TOLERANCE


def test_sde_options_reach_the_solver(graph: Graph, latents, model: FiT) -> None:
    loader, size = graph.loader(), graph.size(304, 208)
    sigmas = scheduler(graph, loader[0], 6, last_step_size=0.1)
    solver = graph.solver(
        "sde-heun", diffusion="decreasing", diffusion_norm=0.5, last_step="tweedie"
    )
    got = latents(
        graph, graph.custom(loader[0], graph.label(loader[0]), size[0], solver[0], sigmas[0])[0]
    )
    options = {"diffusion": "decreasing", "diffusion_norm": 0.5, "last_step": "tweedie"}
    schedule = {"steps": 6, "last_step_size": 0.1}
    more = {**schedule, **options, **solver_noise()}
    same = sampled(model, size=(26, 38), solver="sde-heun", **more)
    assert distance(got, same) <= TOLERANCE


def test_dopri5_says_in_the_host_how_far_it_came(graph: Graph, client) -> None:
    loader, size = graph.loader(), graph.size()
    solver = graph.solver("dopri5", rtol=1e-7, max_evaluations=20)
    node = graph.custom(
        loader[0], graph.label(loader[0]), size[0], solver[0], scheduler(graph, loader[0], 5)[0]
    )
    graph.add("SaveLatent", samples=node[0], filename_prefix="latents/test")
    with pytest.raises(PromptError, match=r"dopri5 reached t = .* with 20 evaluations"):
        client.run(graph.prompt)


def test_a_shift_without_a_latent_is_refused(graph: Graph, client) -> None:
    sigmas = scheduler(graph, graph.loader()[0], 5, schedule="resolution-shifted")
    with pytest.raises(PromptError, match="connect the latent to sample"):
        report(graph, client, sigmas[1])


def test_the_scheduler_reports_its_shift(graph: Graph, client) -> None:
    sigmas = scheduler(
        graph, graph.loader()[0], 5, schedule="resolution-shifted", latent=graph.size(768, 256)[0]
    )
    assert (
        report(graph, client, sigmas[1])
        == "5 steps, shift 1.73: 768 tokens, 3.00× trained tokens (256)"
    )


def test_stock_schedulers_give_the_same_steps(graph: Graph, latents, model: FiT) -> None:
    loader, size = graph.loader(), graph.size(304, 208)
    stock = graph.add("BasicScheduler", model=loader[0], scheduler="simple", steps=6, denoise=1.0)
    got = latents(
        graph,
        graph.custom(
            loader[0], graph.label(loader[0]), size[0], graph.solver("midpoint")[0], stock[0]
        )[0],
    )
    same = sampled(model, size=(26, 38), solver="midpoint", steps=6)
    assert distance(got, same) <= 2e-3  # the stock steps are thousandths

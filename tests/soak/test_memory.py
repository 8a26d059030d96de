"""Hundreds of prompts of random graphs in one ComfyUI: nothing fails, and memory stays flat."""

from __future__ import annotations

import random
import statistics

import psutil
from support.graph import Graph, Node, Output
from support.live_client import LiveClient

from comfyui_fitv2.extrapolation import METHOD_CHOICES
from comfyui_fitv2.solvers import SOLVERS
from devkit.server import Server

PROMPTS = 300
ALLOWED_GROWTH = 0.02
"""Of the median resident memory, from the third to the fourth quarter of the prompts."""
CLASSES = ("France", "Italy", "16", "Finland; France", "Botswana", "110 · Italy")


def with_random_model(graph: Graph, rng: random.Random) -> Output:
    """A MODEL of the loader, with a random chain of nodes on it."""
    model = graph.loader(weight_dtype=rng.choice(("fp32", "auto")))[0]
    for _ in range(rng.randrange(3)):
        model = rng.choice(PATCHES)(graph, model, rng)[0]
    return model


def _extrapolated(graph: Graph, model: Output, rng: random.Random) -> Node:
    return graph.extrapolation(model, rng.choice(METHOD_CHOICES))


def _guided(graph: Graph, model: Output, rng: random.Random) -> Node:
    return graph.guided(model, power=rng.choice((0.0, 1.0)), end=rng.uniform(0.4, 1))


def _shifted(graph: Graph, model: Output, rng: random.Random) -> Node:
    return graph.add("ModelSamplingSD3", model=model, shift=rng.choice((1.0, 3.0)))


def _merged(graph: Graph, model: Output, rng: random.Random) -> Node:
    other = graph.loader()[0]
    return graph.add("ModelMergeSimple", model1=model, model2=other, ratio=rng.random())


def _rescaled(graph: Graph, model: Output, rng: random.Random) -> Node:
    return graph.add("RescaleCFG", model=model, multiplier=rng.random())


PATCHES = (_extrapolated, _guided, _shifted, _merged, _rescaled)


def random_latent(graph: Graph, rng: random.Random) -> tuple[Output, float]:
    """An empty latent or an encoded picture, and a denoise that suits it."""
    size = graph.size(16 * rng.randrange(2, 18), 16 * rng.randrange(2, 14), rng.randrange(1, 4))
    if rng.random() < 0.6:
        return size[0], 1.0
    picture = graph.add("EmptyImage", width=128, height=96, batch_size=1, color=0x3366CC)
    vae = graph.add("VAELoader", vae_name="fit_tiny_vae.safetensors")
    return graph.add("VAEEncode", pixels=picture[0], vae=vae[0])[0], rng.uniform(0.3, 0.9)


def random_graph(rng: random.Random) -> Graph:
    graph = Graph()
    model = with_random_model(graph, rng)
    steps, seed = rng.randrange(1, 4), rng.randrange(2**32)
    if rng.random() < 0.25:
        sizes = "; ".join(rng.sample(("1:1 @ 64", "3:1 @ 40", "2:3 @ 64", "384x32", "96x96"), 3))
        sweep = graph.sweep(model, sizes, rng.choice(("default", "ntk\nlinear")), "France; Italy")
        samples = graph.sweep_sampler(model, sweep[0], steps=steps, seed=seed)[0]
    else:
        label = graph.label(model, rng.choice(CLASSES))
        latent, denoise = random_latent(graph, rng)
        if ";" in graph.prompt[label.id]["inputs"]["text"]:
            latent = graph.add("RepeatLatentBatch", samples=latent, amount=2)[0]
        if rng.random() < 0.5:
            settings = {"steps": steps, "seed": seed, "denoise": denoise}
            samples = graph.ksampler(model, label, latent, **settings)[0]
        else:
            solver = rng.choice([name for name in SOLVERS if name != "dopri5"])
            settings = {"steps": steps, "seed": seed, "denoise": denoise, "solver": solver}
            samples = graph.fit_sampler(model, label, latent, **settings)[0]
    graph.add("PreviewImage", images=graph.decoded(samples)[0])
    return graph


def test_memory_stays_flat_over_random_graphs(server: Server, client: LiveClient) -> None:
    process = psutil.Process(server.pid)
    resident = []
    for seed in range(PROMPTS):
        client.run(random_graph(random.Random(seed)).prompt)
        resident.append(process.memory_info().rss)
    quarter = PROMPTS // 4
    third, fourth = resident[2 * quarter : 3 * quarter], resident[3 * quarter :]
    growth = statistics.median(fourth) / statistics.median(third) - 1
    megabytes = [round(resident[i] / 1e6) for i in range(0, PROMPTS, quarter)]
    print(f"resident MB every {quarter} prompts: {megabytes}; growth {growth:.2%}")
    assert growth <= ALLOWED_GROWTH

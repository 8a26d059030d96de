"""Every stock node that patches a MODEL, and every stock sampler, is tried on a FiT."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.graph import VAE, Graph, Node
from support.live_client import LiveClient

from devkit.client import PromptError
from devkit.workflow import WIDGET_TYPES

SMALL = 96, 64
FOR_ONE_MODEL_ONLY = {
    "FreeU": "scales the skip connections of a U-Net",
    "FreeU_V2": "scales the skip connections of a U-Net",
    "SelfAttentionGuidance": "reads the middle block of a U-Net",
    "TripoSplatSamplingPreview": "shows TripoSplat's point clouds",
}


def model_patching_nodes(object_info: dict[str, Any]) -> Iterator[str]:
    for name, info in object_info.items():
        inputs = [spec[0] for spec in info["input"].get("required", {}).values()]
        if (
            "MODEL" in inputs
            and "MODEL" in info["output"]
            and not info["python_module"].startswith("custom_nodes")
        ):
            yield name


def applied(graph: Graph, loader: Node, name: str, info: dict[str, Any]) -> Node | None:
    """The node with its defaults; None if it needs more than defaults: another model, a file."""
    given = {
        "MODEL": loader[0],
        "LATENT": graph.size(*SMALL)[0],
        "CONDITIONING": graph.label(loader[0])[0],
    }
    given["VAE"] = graph.add("VAELoader", vae_name=VAE)[0]
    inputs = {}
    for key, (kind, *rest) in info["input"]["required"].items():
        options = rest[0] if rest else {}
        if isinstance(kind, list):
            value = kind[0] if kind else None
        elif kind in WIDGET_TYPES:
            value = options.get("default", next(iter(options.get("options", [])), None))
        else:
            value = given.get(kind)
        if value is None:
            return None
        inputs[key] = value
    return graph.add(name, **inputs)


def test_every_stock_model_node_works_on_a_fit(client: LiveClient) -> None:
    object_info = client.get("/object_info")
    tried, failed = [], {}
    for name in model_patching_nodes(object_info):
        if name == "TorchCompileModel":  # has a test of its own
            continue
        graph = Graph()
        loader = graph.loader()
        node = applied(graph, loader, name, object_info[name])
        if node is None:
            continue
        tried.append(name)
        sampled = graph.ksampler(
            node[object_info[name]["output"].index("MODEL")],
            graph.label(loader[0]),
            graph.size(*SMALL)[0],
            steps=2,
        )
        graph.add("PreviewImage", images=graph.decoded(sampled[0])[0])
        try:
            client.run(graph.prompt)
        except PromptError as error:
            failed[name] = str(error)
    assert len(tried) > 50
    assert {
        name: message for name, message in failed.items() if name not in FOR_ONE_MODEL_ONLY
    } == {}


def test_every_stock_sampler_and_scheduler_works(client: LiveClient, latents) -> None:
    choices = client.get("/object_info/KSampler")["KSampler"]["input"]["required"]
    samplers, schedulers = choices["sampler_name"][0], choices["scheduler"][0]
    assert len(samplers) > 30
    cases = [(name, "simple") for name in samplers] + [("euler", name) for name in schedulers]
    failed = {}
    for sampler_name, scheduler in cases:
        graph = Graph()
        loader = graph.loader()
        sampled = graph.ksampler(
            loader[0],
            graph.label(loader[0]),
            graph.size(*SMALL)[0],
            steps=6,
            sampler_name=sampler_name,
            scheduler=scheduler,
        )
        try:
            result = latents(graph, sampled[0])
        except PromptError as error:
            failed[sampler_name, scheduler] = str(error)
            continue
        if not result.isfinite().all() or result.abs().max() > 30:
            failed[sampler_name, scheduler] = f"latents of up to {result.abs().max()}"
    assert failed == {}

"""What other nodes do to class labels: blends of classes, and what makes no sense of them."""

from __future__ import annotations

import pytest
import torch
from host.reference import FRANCE, ITALY, TOLERANCE, distance, noise, sampled
from safetensors.torch import save_file
from support.graph import GUIDANCE_SCALE, STEPS, Graph, Node, Output
from support.live_client import LiveClient, require_node
from torch import Tensor

from comfyui_fitv2 import FiT, class_tensor, resolve_labels, sample
from comfyui_fitv2.guidance import Guidance
from devkit.client import PromptError

FINLAND = 75


def average(graph: Graph, to: Output, other: Output, strength: float) -> Node:
    return graph.add(
        "ConditioningAverage",
        conditioning_to=to,
        conditioning_from=other,
        conditioning_to_strength=strength,
    )


def blended(model: FiT, *images: dict[int, float]) -> Tensor:
    """Latents of blends, sampled outside the host with the settings of the graphs."""
    weights = torch.zeros(len(images), 257)
    for row, parts in enumerate(images):
        for class_id, weight in parts.items():
            weights[row, class_id] = weight
    null = torch.full((len(images),), model.config.null_class)
    guidance, x = Guidance(GUIDANCE_SCALE), noise(len(images))
    for step in range(STEPS):
        t = torch.full((len(images),), step / STEPS)
        velocity = guidance.combine(model(x, t, weights), model(x, t, null), step / STEPS)
        x = x + velocity / STEPS
    return x


@pytest.mark.cases("P4")
@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
def test_an_average_of_two_labels_is_between_them(
    graph: Graph, latents, model: FiT, sampler: str
) -> None:
    loader = graph.loader()
    france, italy = graph.label(loader[0], "France"), graph.label(loader[0], "Italy")

    def drawn(positive: Node) -> Tensor:
        size = graph.size()[0]
        return latents(
            graph, getattr(graph, sampler)(loader[0], france, size, positive=positive[0])[0]
        )

    for strength in (0.5, 0.3):
        got = drawn(average(graph, france[0], italy[0], strength))
        assert distance(got, blended(model, {FRANCE: strength, ITALY: 1 - strength})) <= TOLERANCE
        assert min(distance(got, sampled(model, i)) for i in (FRANCE, ITALY)) > 0.1
    assert distance(drawn(average(graph, france[0], italy[0], 1.0)), sampled(model)) <= TOLERANCE
    assert (
        distance(drawn(average(graph, france[0], italy[0], 0.0)), sampled(model, ITALY))
        <= TOLERANCE
    )
    assert (
        distance(drawn(average(graph, italy[0], italy[0], 0.3)), sampled(model, ITALY)) <= TOLERANCE
    )


@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
def test_a_blend_in_the_text_draws_what_the_average_of_labels_draws(
    graph: Graph, latents, model: FiT, sampler: str
) -> None:
    loader = graph.loader()
    france, italy = graph.label(loader[0], "France"), graph.label(loader[0], "Italy")
    mixed = average(graph, france[0], italy[0], 0.3)
    typed = graph.label(loader[0], "0.3*France + 0.7*Italia")
    size = graph.size()[0]
    by_average, by_text = (
        latents(graph, getattr(graph, sampler)(loader[0], france, size, positive=positive)[0])
        for positive in (mixed[0], typed[0])
    )
    assert distance(by_text, by_average) <= TOLERANCE
    y = class_tensor(resolve_labels("0.3*76 + 0.7*110", None, 256), 256)
    same = sample(model, noise(), y, "euler", STEPS, GUIDANCE_SCALE)
    assert distance(by_text, same) <= TOLERANCE


def test_a_batch_holds_blends_beside_labels(graph: Graph, latents, client, model: FiT) -> None:
    loader = graph.loader()
    typed = graph.label(loader[0], "France + Italy; UK, Finland")
    shown = graph.add("PreviewAny", source=typed[2])
    text = client.run(graph.prompt).outputs[shown.id]["text"][0]
    assert text == "76 · France + 110 · Italy; 240 · United Kingdom; 75 · Finland"
    size = graph.size(batch_size=3)[0]
    got = latents(graph, graph.fit_sampler(loader[0], typed, size)[0])
    expected = blended(model, {FRANCE: 0.5, ITALY: 0.5}, {240: 1.0}, {FINLAND: 1.0})
    assert distance(got, expected) <= TOLERANCE


@pytest.mark.cases("P4")
def test_one_label_blends_with_each_of_several(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    two, one = graph.label(loader[0], "France; Italy"), graph.label(loader[0], "Finland")
    expected = blended(model, {FRANCE: 0.6, FINLAND: 0.4}, {ITALY: 0.6, FINLAND: 0.4})
    for to, other, strength in ((two, one, 0.6), (one, two, 0.4)):
        positive = average(graph, to[0], other[0], strength)
        size = graph.size(batch_size=2)[0]
        got = latents(graph, graph.fit_sampler(loader[0], two, size, positive=positive[0])[0])
        assert distance(got, expected) <= TOLERANCE


@pytest.mark.cases("P4")
@pytest.mark.parametrize("multiplier", [0.0, 0.4, 1.0, 1.5])
def test_part_of_a_label_is_on_the_way_from_the_null_class(
    graph: Graph, client: LiveClient, latents, model: FiT, multiplier: float
) -> None:
    require_node(client, "ConditioningMultiply")
    loader = graph.loader()
    label = graph.label(loader[0])
    part = graph.add("ConditioningMultiply", conditioning=label[0], multiplier=multiplier)
    zeroed = graph.add("ConditioningZeroOut", conditioning=label[0])
    ways = [part[0]]
    if multiplier <= 1:
        ways.append(average(graph, label[0], zeroed[0], multiplier)[0])
    null = model.config.null_class
    expected = blended(model, {FRANCE: multiplier, null: 1 - multiplier})
    for positive in ways:
        got = latents(
            graph, graph.fit_sampler(loader[0], label, graph.size()[0], positive=positive)[0]
        )
        assert distance(got, expected) <= TOLERANCE


@pytest.mark.cases("P4")
def test_a_blend_keeps_to_its_part_of_the_sampling(graph: Graph, latents, model: FiT) -> None:
    """Timestep ranges and Combine act on a blend as on a label."""
    loader = graph.loader()
    france, italy = graph.label(loader[0]), graph.label(loader[0], "Italy")
    half = average(graph, france[0], italy[0], 0.5)
    early = graph.add("ConditioningSetTimestepRange", conditioning=half[0], start=0.0, end=0.5)
    late = graph.add("ConditioningSetTimestepRange", conditioning=italy[0], start=0.5, end=1.0)
    both = graph.add("ConditioningCombine", conditioning_1=early[0], conditioning_2=late[0])
    got = latents(graph, graph.fit_sampler(loader[0], france, graph.size()[0], positive=both[0])[0])
    whole = blended(model, {FRANCE: 0.5, ITALY: 0.5})
    assert distance(got, whole) > 0.01
    assert distance(got, sampled(model, ITALY)) > 0.01


@pytest.mark.cases("P4")
def test_what_is_no_blend_is_refused_by_name(graph: Graph, client) -> None:
    loader = graph.loader()
    france, italy = graph.label(loader[0]), graph.label(loader[0], "Italy")
    joined = graph.add("ConditioningConcat", conditioning_to=france[0], conditioning_from=italy[0])
    for sampler in (graph.fit_sampler, graph.ksampler):
        node = sampler(loader[0], france, graph.size()[0], positive=joined[0])
        graph.add("PreviewAny", source=node[0])
        with pytest.raises(
            PromptError, match=r"2 tokens.*ConditioningConcat joins texts.*ConditioningAverage"
        ):
            client.run(graph.prompt)
        graph.prompt.popitem()


@pytest.mark.cases("C6")
@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
def test_latents_of_another_models_vae_are_refused_with_the_vae_to_use(
    graph: Graph, client, server, sampler: str
) -> None:
    (server.base / "input").mkdir(exist_ok=True)
    tensors = {"latent_tensor": torch.ones(1, 16, 8, 12), "latent_format_version_0": torch.ones(1)}
    save_file(tensors, server.base / "input" / "other_vae.latent")
    loader = graph.loader()
    wrong = graph.add("LoadLatent", latent="other_vae.latent")
    node = getattr(graph, sampler)(loader[0], graph.label(loader[0]), wrong[0])
    graph.add("PreviewAny", source=node[0])
    with pytest.raises(PromptError, match=r"16 channels.*needs 4.*VAE.*fit_tiny_vae"):
        client.run(graph.prompt)


@pytest.mark.cases("C6")
@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
def test_latents_of_video_are_refused(graph: Graph, client, sampler: str) -> None:
    loader = graph.loader()
    video = graph.add("EmptyHunyuanLatentVideo", width=96, height=64, length=5, batch_size=1)
    node = getattr(graph, sampler)(loader[0], graph.label(loader[0]), video[0])
    graph.add("PreviewAny", source=node[0])
    with pytest.raises(
        PromptError, match=r"5 dimensions.*FiT draws images: connect FiT Resolution"
    ):
        client.run(graph.prompt)
    again = Graph()
    loader = again.loader()
    video = again.add("EmptyHunyuanLatentVideo", width=96, height=64, length=5, batch_size=1)
    node = again.extrapolation(loader[0], latent=video[0])
    again.add("PreviewAny", source=node[1])
    with pytest.raises(PromptError, match=r"5 dimensions"):
        client.run(again.prompt)


@pytest.mark.cases("C6")
@pytest.mark.parametrize("node", ["EmptySD3LatentImage", "EmptyLatentImage"])
def test_empty_latents_of_any_model_are_adapted(
    graph: Graph, latents, model: FiT, node: str
) -> None:
    loader = graph.loader()
    empty = graph.add(node, width=192, height=128, batch_size=1)
    label = graph.label(loader[0])
    for sampler in (graph.fit_sampler, graph.ksampler):
        got = latents(graph, sampler(loader[0], label, empty[0])[0])
        assert distance(got, sampled(model)) <= TOLERANCE


@pytest.mark.cases("C6")
def test_odd_sizes_batches_and_masks_of_another_size_are_taken(
    graph: Graph, latents, client
) -> None:
    loader = graph.loader()
    odd = graph.add("EmptyLatentImage", width=104, height=72, batch_size=3)
    mask = graph.add("SolidMask", value=0.5, width=31, height=17)
    masked = graph.add("SetLatentNoiseMask", samples=odd[0], mask=mask[0])
    for sampler in (graph.fit_sampler, graph.ksampler):
        got = latents(graph, sampler(loader[0], graph.label(loader[0]), masked[0])[0])
        assert got.shape == (3, 4, 9, 13)
        assert got.isfinite().all()

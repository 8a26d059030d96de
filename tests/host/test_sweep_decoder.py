"""FiT Sweep Decoder: the images of VAE Decode, with progress, and each decoded once."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops
from support.graph import VAE, Graph
from support.live_client import LiveClient


def test_images_are_those_of_vae_decode_and_each_is_decoded_once(
    graph: Graph, client: LiveClient
) -> None:
    def decoded() -> int:
        return client.get("/fit_test/counts")["decoded"]

    loader = graph.loader()
    vae = graph.add("VAELoader", vae_name=VAE)
    sweep = graph.sweep(loader[0], "96x64; 64x96; 1:1 @ 16", "none", seeds="70, 71")
    sampled = graph.sweep_sampler(loader[0], sweep[0], steps=1)
    ours = graph.add("FiTSweepDecoder", latents=sampled[0], vae=vae[0], sweep=sampled[2])
    theirs = graph.add("VAEDecode", samples=sampled[0], vae=vae[0])
    shown = [graph.add("PreviewImage", images=node[0]) for node in (ours, theirs)]
    before = decoded()
    run = client.run(graph.prompt)
    assert decoded() - before == 12
    of_ours, of_theirs = (
        [Image.open(io.BytesIO(client.fetch(file))) for file in run.outputs[node.id]["images"]]
        for node in shown
    )
    assert [image.size for image in of_ours] == [(96, 64), (64, 96), (64, 64)] * 2
    assert not any(
        ImageChops.difference(a, b).getbbox() for a, b in zip(of_ours, of_theirs, strict=True)
    )
    assert [value for node, value, _ in run.progress if node == ours.id and value] == [*range(1, 7)]
    # Three images side by side, and two rows of them.
    last = Image.open(io.BytesIO(run.previews[-1]))
    assert last.width / last.height == pytest.approx((96 + 64 + 64 + 2) / (96 + 96 + 1), rel=0.02)

    graph.prompt[sweep.id]["inputs"]["seeds"] = "71, 72"
    for node in (theirs, shown[1]):
        del graph.prompt[node.id]
    before = decoded()
    client.run(graph.prompt)
    assert decoded() - before == 3


def test_a_batch_stays_together(graph: Graph, client: LiveClient) -> None:
    loader = graph.loader()
    label = graph.label(loader[0])
    batch = graph.fit_sampler(loader[0], label, graph.size(96, 64, batch_size=2)[0], steps=1)
    vae = graph.add("VAELoader", vae_name=VAE)
    images = graph.add("FiTSweepDecoder", latents=batch[0], vae=vae[0])
    shown = graph.add("PreviewImage", images=images[0])
    assert len(client.run(graph.prompt).outputs[shown.id]["images"]) == 2

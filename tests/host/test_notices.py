"""What nodes show while a graph runs: what they did, and warnings of what comes out badly."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from support.graph import BUNDLED, VAE, Graph
from support.live_client import LiveClient, LiveRun


def test_a_rounded_size_is_shown_on_its_node_with_what_was_asked_for(
    graph: Graph, client: LiveClient
) -> None:
    size = {"tokens": 256, "width": 300, "height": 250, "batch_size": 1}
    node = graph.add("FiTResolution", aspect_ratio="exact size", **size)
    report = graph.add("PreviewAny", source=node[3])
    run = client.run(graph.prompt)
    assert run.texts == {node.id: "300 × 250 → 304 × 256 px"}
    assert run.warnings == []
    full = (
        "300 × 250 → 304 × 256 px · 19 × 16 = 304 tokens · 1.19× trained tokens (256), beyond"
        " · 1.19× trained side (16)"
    )
    assert run.outputs[report.id]["text"] == run.outputs[node.id]["text"] == [full]


def test_a_size_that_needs_no_rounding_is_not_repeated(graph: Graph, client: LiveClient) -> None:
    node = graph.size(304, 256)
    graph.add("PreviewAny", source=node[3])
    assert client.run(graph.prompt).texts == {}


def test_extrapolation_and_scheduler_show_their_reports(graph: Graph, client: LiveClient) -> None:
    loader, size = graph.loader(), graph.size(448, 448)
    method = graph.extrapolation(loader[0], "yarn", latent=size[0])
    scheduler = graph.add(
        "FiTScheduler",
        model=loader[0],
        latent=size[0],
        steps=5,
        schedule="resolution-shifted",
        denoise=1.0,
        last_step_size=0.0,
    )
    reports = [graph.add("PreviewAny", source=node[1]) for node in (method, scheduler)]
    run = client.run(graph.prompt)
    for node, report in zip((method, scheduler), reports, strict=True):
        assert [run.texts[node.id]] == run.outputs[report.id]["text"]
    assert "trained side" in run.texts[method.id]
    assert "3.06× trained tokens (256)" in run.texts[scheduler.id]


def run_sampler(client: LiveClient, graph: Graph, sampler: str, **changes) -> tuple[LiveRun, str]:
    """Sample with "fit_sampler" or "ksampler"; the run and the id of the sampler."""
    loader = graph.loader()
    latent = changes.pop("latent", None) or graph.size(64, 64)[0]
    label = graph.label(loader[0])
    node = getattr(graph, sampler)(loader[0], label, latent, **{"steps": 2, **changes})
    graph.add("PreviewAny", source=node[0])
    return client.run(graph.prompt), node.id


@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
def test_an_empty_latent_with_little_denoising_gets_a_warning(
    graph: Graph, client: LiveClient, server, sampler: str
) -> None:
    run, node = run_sampler(client, graph, sampler, denoise=0.5)
    ((warned, text),) = run.warnings
    assert warned == node
    assert text.startswith("The latent is empty: set denoise to 1, or connect VAE Encode")
    assert "50% noise" in text
    assert run.texts[node] == f"⚠ {text}"
    assert f"FiT: {text}" in server.log()


@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
def test_an_empty_latent_that_starts_from_noise_gets_none(
    graph: Graph, client: LiveClient, sampler: str
) -> None:
    run, node = run_sampler(client, graph, sampler)
    assert run.warnings == []
    assert node not in run.texts


def test_an_image_with_little_denoising_gets_no_warning(graph: Graph, client: LiveClient) -> None:
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x3366AA)
    vae = graph.add("VAELoader", vae_name="fit_tiny_vae.safetensors")
    encoded = graph.add("VAEEncode", pixels=image[0], vae=vae[0])
    run, _ = run_sampler(client, graph, "ksampler", latent=encoded[0], denoise=0.5)
    assert run.warnings == []


def test_no_scheduler_of_comfyui_makes_an_empty_latent_suspect(
    graph: Graph, client: LiveClient
) -> None:
    schedulers = client.get("/object_info/KSampler")["KSampler"]["input"]["required"]["scheduler"]
    loader, label = graph.loader(), None
    label, size = graph.label(loader[0]), graph.size(32, 32)
    for scheduler in schedulers[0]:
        node = graph.ksampler(loader[0], label, size[0], steps=20, scheduler=scheduler)
        graph.add("PreviewAny", source=node[0])
    assert client.run(graph.prompt).warnings == []


BUNDLED_VAE = Path(__file__).parent.parent.parent / "models" / "vae" / VAE
OTHER_VAE = "other_tiny_vae.safetensors"


@pytest.fixture(scope="module")
def other_vae(server) -> str:
    """A VAE of the same layout as the bundled one, and other latents."""
    weights = {key: value * 1.01 for key, value in load_file(BUNDLED_VAE).items()}
    (server.base / "models" / "vae").mkdir(exist_ok=True)
    save_file(weights, server.base / "models" / "vae" / OTHER_VAE)
    return OTHER_VAE


@pytest.mark.parametrize("sampler", ["fit_sampler", "ksampler"])
@pytest.mark.parametrize("wrong", ["encoder", "decoder"])
def test_a_vae_of_other_latents_gets_a_warning_before_anything_runs(
    graph: Graph, client: LiveClient, server, other_vae: str, sampler: str, wrong: str
) -> None:
    names = {"encoder": VAE, "decoder": VAE, wrong: other_vae}
    vaes = {use: graph.add("VAELoader", vae_name=name)[0] for use, name in names.items()}
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0x3366AA)
    encoded = graph.add("VAEEncode", pixels=image[0], vae=vaes["encoder"])
    repeated = graph.add("RepeatLatentBatch", samples=encoded[0], amount=2)
    loader = graph.loader()
    changed = graph.extrapolation(loader[0])
    sampled = getattr(graph, sampler)(
        changed[0], graph.label(loader[0]), repeated[0], steps=1, denoise=0.5
    )
    decoded = graph.add("VAEDecode", samples=sampled[0], vae=vaes["decoder"])
    graph.add("PreviewImage", images=decoded[0])
    warned = {"encoder": encoded.id, "decoder": decoded.id}[wrong]
    text = (
        f"Load VAE has {other_vae}, but {BUNDLED} needs the VAE fit_tiny_vae: choose it there. "
        "Another VAE gives noise or wrong colours."
    )
    assert client.run(graph.prompt).warnings == [(warned, text)]
    assert f"FiT: {text}" in server.log()


def test_a_renamed_vae_fits(graph: Graph, client: LiveClient, server) -> None:
    (server.base / "models" / "vae").mkdir(exist_ok=True)
    (server.base / "models" / "vae" / "renamed.safetensors").write_bytes(BUNDLED_VAE.read_bytes())
    loader = graph.loader()
    sampled = graph.fit_sampler(loader[0], graph.label(loader[0]), graph.size(64, 64)[0], steps=1)
    vae = graph.add("VAELoader", vae_name="renamed.safetensors")
    graph.add("PreviewImage", images=graph.add("VAEDecode", samples=sampled[0], vae=vae[0])[0])
    assert client.run(graph.prompt).warnings == []


def test_a_tiny_vae_does_not_fit_latents_of_stable_diffusion(
    graph: Graph, client: LiveClient
) -> None:
    loader = graph.loader("ten_classes.safetensors")
    label, size = graph.label(loader[0], "3"), graph.size(64, 64)
    sampled = graph.ksampler(loader[0], label, size[0], steps=1)
    graph.add("PreviewImage", images=graph.decoded(sampled[0])[0])
    ((_, text),) = client.run(graph.prompt).warnings
    assert "ten_classes.safetensors needs the VAE of Stable Diffusion 1.x" in text

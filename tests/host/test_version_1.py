"""A FiT of version 1 predicts noise: the host's own EPS sampling treats it as a DDPM."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from host.reference import TOLERANCE, distance, noise
from support.graph import GUIDANCE_SCALE, Graph
from torch import Tensor

from comfyui_fitv2 import Extrapolation, FiT, FiTConfig, Metadata, save_checkpoint
from comfyui_fitv2.guidance import Guidance
from devkit.client import PromptError

CONFIG = FiTConfig(
    hidden_size=64,
    depth=2,
    num_heads=2,
    num_classes=10,
    adaln_lora_dim=0,
    mlp_ratio=6.0,
    qk_norm=False,
    prediction="epsilon",
)
LABEL = 3
# 18 × 6 tokens, beyond the 16 of the training on one side.
WIDTH, HEIGHT = 288, 96


@pytest.fixture(scope="module")
def version_1(server) -> FiT:
    """Random weights, which the server has as version_1.safetensors too."""
    torch.manual_seed(1)
    model = FiT(CONFIG).requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.1)
    save_checkpoint(
        server.base / "models" / "fit" / "version_1.safetensors",
        model.state_dict(),
        Metadata(CONFIG),
    )
    return model


def ddim(
    model: FiT, steps: int, guidance: Guidance, extrapolation: Extrapolation | None = None
) -> Tensor:
    """DDIM without noise (arXiv 2010.02502, eq. 12), in evenly spaced timesteps from the last."""
    signal = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    timesteps = [999 - step * 1000 // steps for step in range(steps)]
    parts = [*signal[timesteps].tolist(), 1.0]
    x = noise(height=HEIGHT // 8, width=WIDTH // 8)
    for timestep, (now, after) in zip(timesteps, pairwise(parts), strict=True):
        t = torch.tensor([float(timestep)])
        conditional, unconditional = (
            model(x, t, torch.tensor([y]), extrapolation) for y in (LABEL, CONFIG.null_class)
        )
        time = 1 - timestep / 1000
        epsilon = (
            guidance.combine(conditional, unconditional, time)
            if guidance.acts_at(time)
            else conditional
        )
        data = (x - (1 - now) ** 0.5 * epsilon) / now**0.5
        x = after**0.5 * data + (1 - after) ** 0.5 * epsilon
    return x


@pytest.mark.parametrize(
    ("guided", "method"),
    [
        ({}, "none"),
        ({}, "time-aware"),
        ({"channels": "all", "power": 1.5, "start": 0.2, "end": 0.7}, "none"),
    ],
    ids=["plain", "extrapolated", "guided"],
)
def test_ksampler_gives_the_latents_of_a_ddpm(
    graph: Graph, latents, version_1: FiT, guided: dict, method: str
) -> None:
    loader = graph.loader("version_1.safetensors")
    model = graph.guided(loader[0], **guided) if guided else loader
    model = graph.extrapolation(model[0], method) if method != "none" else model
    got = latents(
        graph,
        graph.ksampler(
            model[0], graph.label(loader[0], str(LABEL)), graph.size(WIDTH, HEIGHT)[0], steps=4
        )[0],
    )
    guidance = Guidance(GUIDANCE_SCALE)
    if guided:
        guidance = Guidance(GUIDANCE_SCALE, power=1.5, interval=(0.2, 0.7), channels=None)
    expected = ddim(version_1, 4, guidance, Extrapolation(method))
    assert distance(got, expected) <= TOLERANCE * max(expected.abs().max().item(), 1)


def test_nodes_for_rectified_flows_name_the_stock_sampler(
    graph: Graph, client, version_1: FiT
) -> None:
    loader = graph.loader("version_1.safetensors")
    node = graph.fit_sampler(loader[0], graph.label(loader[0], str(LABEL)), graph.size()[0])
    graph.add("SaveLatent", samples=node[0], filename_prefix="latents/test")
    with pytest.raises(PromptError, match=r"predicts noise\. Use KSampler"):
        client.run(graph.prompt)


def test_a_solver_of_rectified_flows_rejects_its_sigmas(
    graph: Graph, client, version_1: FiT
) -> None:
    loader, size = graph.loader("version_1.safetensors"), graph.size()
    sigmas = graph.add("BasicScheduler", model=loader[0], scheduler="simple", steps=2, denoise=1.0)
    node = graph.custom(
        loader[0], graph.label(loader[0], str(LABEL)), size[0], graph.solver("euler")[0], sigmas[0]
    )
    graph.add("SaveLatent", samples=node[0], filename_prefix="latents/test")
    with pytest.raises(
        PromptError, match=r"sigmas fall from 1 to 0; these start at .* use KSampler"
    ):
        client.run(graph.prompt)

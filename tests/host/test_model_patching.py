"""The host's LoRAs, merges, saving, compilation and patches work on a FiT."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from host.reference import FRANCE, TOLERANCE, distance, noise, sampled
from safetensors.torch import save_file
from support.graph import STEPS, Graph, Node
from torch import Tensor

from comfyui_fitv2 import FiT, read_checkpoint, save_checkpoint
from comfyui_fitv2.guidance import Guidance, guided_velocity
from comfyui_fitv2.solvers import SOLVERS, sampling_sigmas


def ksampler(graph: Graph, loader: Node, patched: Node | None = None) -> list:
    model = (patched or loader)[0]
    return graph.ksampler(model, graph.label(model), graph.size()[0])[0]


@pytest.mark.parametrize(
    "naming", ["diffusion_model.{}.lora_{}.weight", "lora_unet_{}.lora_{}.weight"]
)
def test_a_lora_changes_the_weights_it_names(
    graph: Graph, latents, server, model: FiT, naming: str
) -> None:
    rank, strength = 4, 0.8
    layers = ["blocks.2.attn.qkv", "blocks.5.mlp.fc2", "final_layer.linear"]
    expected, lora = copy.deepcopy(model), {}
    for layer in layers:
        weight = expected.get_submodule(layer).weight
        assert isinstance(weight, Tensor)
        up, down = (
            torch.randn(weight.shape[0], rank) * 0.08,
            torch.randn(rank, weight.shape[1]) * 0.08,
        )
        key = layer.replace(".", "_") if "unet" in naming else layer
        lora |= {naming.format(key, "up"): up, naming.format(key, "down"): down}
        weight += strength * up @ down
    name = f"{'unet' if 'unet' in naming else 'plain'}.safetensors"
    save_file(lora, server.base / "models" / "loras" / name)

    loader = graph.loader()
    patched = graph.add(
        "LoraLoaderModelOnly", model=loader[0], lora_name=name, strength_model=strength
    )
    got = latents(graph, ksampler(graph, loader, patched))
    assert distance(got, sampled(expected)) <= TOLERANCE
    assert distance(got, sampled(model)) > 0.1
    # Nothing stays on the shared model.
    assert distance(latents(graph, ksampler(graph, loader)), sampled(model)) <= TOLERANCE


def test_the_hosts_own_lora_training_works(
    graph: Graph, latents, client, server, model: FiT
) -> None:
    loader = graph.loader()
    label = graph.label(loader[0], "Italy")
    training_latents = graph.fit_sampler(loader[0], label, graph.size()[0], steps=2)
    defaults = client.get("/object_info/TrainLoraNode")["TrainLoraNode"]["input"]["required"]
    settings = {k: spec[1]["default"] for k, spec in defaults.items() if "default" in spec[1]}
    settings |= {
        "steps": 3,
        "learning_rate": 0.02,
        "training_dtype": "fp32",
        "lora_dtype": "fp32",
        "existing_lora": "[None]",
    }
    trained = graph.add(
        "TrainLoraNode", model=loader[0], latents=training_latents[0], positive=label[0], **settings
    )
    graph.add("SaveLoRA", lora=trained[0], prefix="loras/trained")
    client.run(graph.prompt)
    (saved,) = (server.base / "output" / "loras").glob("trained*.safetensors")
    again = Graph()
    loader = again.loader()
    patched = again.add(
        "LoraLoaderModelOnly", model=loader[0], lora_name=saved.name, strength_model=1.0
    )
    got = latents(again, ksampler(again, loader, patched))
    assert got.isfinite().all()
    assert distance(got, sampled(model)) > 0.1


def test_merging_averages_weights_and_saving_keeps_the_model(
    graph: Graph, latents, client, server, model: FiT, bundled_checkpoint: Path
) -> None:
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter += (
            0.05 * parameter.std() * torch.randn(parameter.shape) if parameter.numel() > 1 else 0
        )
    metadata = read_checkpoint(bundled_checkpoint).metadata
    save_checkpoint(
        server.base / "models" / "fit" / "other.safetensors", other.state_dict(), metadata
    )
    expected = copy.deepcopy(model)
    for a, b in zip(expected.parameters(), other.parameters(), strict=True):
        a.lerp_(b, 0.25)

    first, second = graph.loader(), graph.loader("other.safetensors")
    merged = graph.add("ModelMergeSimple", model1=first[0], model2=second[0], ratio=0.75)
    assert distance(latents(graph, ksampler(graph, first, merged)), sampled(expected)) <= TOLERANCE

    graph.add("ModelSave", model=merged[0], filename_prefix="diffusion_models/merged")
    client.run(graph.prompt)
    (saved,) = (server.base / "output" / "diffusion_models").glob("merged*.safetensors")
    assert read_checkpoint(saved).metadata == metadata
    again = Graph()
    loader = again.loader(saved.name)
    assert distance(latents(again, ksampler(again, loader)), sampled(expected)) <= TOLERANCE


def test_a_saved_model_gives_the_same_latents(
    graph: Graph, latents, client, server, model: FiT
) -> None:
    loader = graph.loader(weight_dtype="bf16")
    graph.add("ModelSave", model=loader[0], filename_prefix="diffusion_models/same")
    client.run(graph.prompt)
    (saved,) = (server.base / "output" / "diffusion_models").glob("same*.safetensors")
    again = Graph()
    assert (
        distance(latents(again, ksampler(again, again.loader(saved.name))), sampled(model))
        <= TOLERANCE
    )


def test_a_compiled_model_gives_the_same_latents_and_follows_its_options(
    graph: Graph, latents, one_block: FiT
) -> None:
    if shutil.which("g++") is None and shutil.which("cl") is None:
        pytest.skip("torch.compile needs a C++ compiler, and this machine has none")
    loader = graph.loader("one_block.safetensors")
    compiled = graph.add("TorchCompileModel", model=loader[0], backend="inductor")

    def ksampler(source: Node) -> list:
        return graph.ksampler(source[0], graph.label(loader[0], "3"), graph.size()[0])[0]

    plain = sampled(one_block, 3)
    assert distance(latents(graph, ksampler(compiled)), plain) <= 1e-3

    def scaled(source: Node) -> list:
        options = {
            "scale_x": 0.5,
            "shift_x": 0.0,
            "scale_y": 0.5,
            "shift_y": 0.0,
            "scale_t": 1.0,
            "shift_t": 0.0,
        }
        return ksampler(graph.add("ScaleROPE", model=source[0], **options))

    expected = latents(graph, scaled(loader))
    assert distance(latents(graph, scaled(compiled)), expected) <= 1e-3
    assert distance(expected, plain) > 1e-2


def test_rope_options_move_positions(graph: Graph, latents, model: FiT) -> None:
    loader = graph.loader()
    # The same shift of all positions changes no relative position, so nothing but rounding.
    options = {
        "scale_x": 1.0,
        "shift_x": 5.0,
        "scale_y": 1.0,
        "shift_y": -3.0,
        "scale_t": 1.0,
        "shift_t": 0.0,
    }
    shifted = graph.add("ScaleROPE", model=loader[0], **options)
    assert distance(latents(graph, ksampler(graph, loader, shifted)), sampled(model)) <= 1e-3


def test_skip_layer_guidance_replaces_a_block(graph: Graph, latents, model: FiT) -> None:
    class Skipped(torch.nn.Module):
        def forward(self, x: Tensor, *_: object) -> Tensor:
            return x

    without = copy.deepcopy(model)
    without.blocks[3] = Skipped()
    y = torch.tensor([FRANCE])
    whole, skipped = (
        guided_velocity(model, y, Guidance(1.0)),
        guided_velocity(without, y, Guidance(1.0)),
    )
    with torch.no_grad():
        expected = SOLVERS["euler"].integrate(
            lambda x, t: 3 * whole(x, t) - 2 * skipped(x, t), noise(), 1 - sampling_sigmas(STEPS)
        )

    loader = graph.loader()
    options = {
        "double_layers": "3",
        "single_layers": "",
        "scale": 2.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "rescaling_scale": 0.0,
    }
    patched = graph.add("SkipLayerGuidanceDiT", model=loader[0], **options)
    got = latents(
        graph, graph.ksampler(patched[0], graph.label(loader[0]), graph.size()[0], cfg=1.0)[0]
    )
    assert (
        distance(got, expected) <= TOLERANCE * 3
    )  # the guidance scale multiplies rounding errors too


def test_a_checkpoint_written_again_is_loaded_again(
    latents, server, bundled_checkpoint: Path
) -> None:
    checkpoint = read_checkpoint(bundled_checkpoint)
    path = server.base / "models" / "fit" / "rewritten.safetensors"
    results = []
    for factor in (1.0, 0.9):
        save_checkpoint(
            path, {k: v * factor for k, v in checkpoint.state_dict.items()}, checkpoint.metadata
        )
        graph = Graph()
        results.append(latents(graph, ksampler(graph, graph.loader(path.name))))
    assert distance(*results) > 0.1


def test_the_stock_diffusion_model_folder_is_searched(
    graph: Graph, latents, server, model: FiT, bundled_checkpoint: Path
) -> None:
    folder = server.base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(bundled_checkpoint, folder / "elsewhere.safetensors")
    assert (
        distance(
            latents(graph, ksampler(graph, graph.loader("elsewhere.safetensors"))), sampled(model)
        )
        <= TOLERANCE
    )

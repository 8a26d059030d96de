"""One ComfyUI server for all host tests, with a data folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from host.reference import SCALE
from safetensors.torch import load_file
from support.graph import Graph, Output
from support.live_client import LiveClient
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig, Metadata, load_checkpoint, save_checkpoint
from devkit.host import Host
from devkit.server import Server

SUPPORT = Path(__file__).parent.parent / "support"


def first_block(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model without its other blocks."""
    return {
        key: value
        for key, value in state.items()
        if not key.startswith("blocks.") or key.startswith("blocks.0.")
    }


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, golden_config, golden_state
) -> Iterator[Server]:
    if "FITV2_HOST" not in os.environ:
        pytest.skip("needs a ComfyUI: run `python dev.py test`, which fetches one")
    host = Host(Path(os.environ["FITV2_HOST"]), Path(os.environ["FITV2_HOST_PYTHON"]), ours=False)
    base = tmp_path_factory.mktemp("comfyui")
    # A model with other classes than the bundled one.
    save_checkpoint(
        base / "models" / "fit" / "ten_classes.safetensors",
        golden_state,
        Metadata(golden_config, [f"class {i}" for i in range(10)]),
    )
    save_checkpoint(
        base / "models" / "fit" / "one_block.safetensors",
        first_block(golden_state),
        Metadata(replace(golden_config, depth=1)),
    )
    (base / "models" / "loras").mkdir(parents=True)
    (base / "custom_nodes").mkdir()
    shutil.copy(SUPPORT / "counting_node.py", base / "custom_nodes")
    with Server(host, base) as running:
        yield running
        log = running.log()
    assert f"Cannot import {base}" not in log, log
    assert "you accessed" not in log, log  # the host's warning of an attribute our config lacks


@pytest.fixture
def client(server: Server) -> Iterator[LiveClient]:
    yield LiveClient(server.url)
    assert server.is_running()


@pytest.fixture(scope="session")
def model(bundled_checkpoint: Path) -> FiT:
    """The bundled model outside the host, in fp32."""
    return load_checkpoint(bundled_checkpoint, dtype=torch.float32).model.requires_grad_(False)


@pytest.fixture(scope="session")
def one_block(golden_config: FiTConfig, golden_state: dict[str, Tensor]) -> FiT:
    """A model that is compiled quickly; the server has it as one_block.safetensors."""
    model = FiT(replace(golden_config, depth=1))
    model.load_state_dict(first_block(golden_state))
    return model.eval().requires_grad_(False)


@pytest.fixture
def graph() -> Graph:
    return Graph()


class Latents:
    """Runs graphs and reads latents of their outputs, in the model's scale."""

    def __init__(self, server: Server, client: LiveClient) -> None:
        self._server = server
        self._client = client

    def __call__(self, graph: Graph, output: Output) -> Tensor:
        """The latents of an output that is not a list."""
        (latents,) = self.each(graph, output)
        return latents

    def each(self, graph: Graph, output: Output) -> list[Tensor]:
        """All latents of an output that may be a list."""
        (latents,) = self.of_all(graph, [output])
        return latents

    def of_all(self, graph: Graph, outputs: list[Output]) -> list[list[Tensor]]:
        """All latents of each of several outputs, from one run of the graph."""
        saved = [
            graph.add("SaveLatent", samples=output, filename_prefix="latents/test")
            for output in outputs
        ]
        run = self._client.run(graph.prompt)
        for node in saved:
            del graph.prompt[node.id]
        folder = self._server.base / "output"
        return [
            [
                load_file(folder / file["subfolder"] / file["filename"])["latent_tensor"] * SCALE
                for file in run.outputs[node.id]["latents"]
            ]
            for node in saved
        ]


@pytest.fixture
def latents(server: Server, client: LiveClient) -> Latents:
    return Latents(server, client)

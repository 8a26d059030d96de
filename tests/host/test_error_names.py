"""Errors of the pack are shown by plain names, without the path of the module that has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.graph import Graph, Output
from support.live_client import LiveClient

from devkit.client import PromptError


def unknown_class(graph: Graph) -> Output:
    return graph.label(graph.loader()[0], "Filland")[0]


def broken_checkpoint(graph: Graph) -> Output:
    return graph.loader("a_web_page.safetensors")[0]


def no_run(graph: Graph) -> Output:
    return graph.add("FiTTrainingRun", run="nowhere", average="", weight_dtype="auto")[0]


def solver_that_gives_up(graph: Graph) -> Output:
    """The error comes from a sampler of ours in a node of ComfyUI."""
    model = graph.loader()[0]
    solver = graph.solver("dopri5", max_evaluations=8, rtol=1e-8, atol=1e-10)
    sigmas = graph.add(
        "FiTScheduler",
        model=model,
        steps=2,
        schedule="uniform",
        denoise=1.0,
        last_step_size=0.0,
    )
    label, size = graph.label(model), graph.size(64, 64)[0]
    return graph.custom(model, label, size, solver[0], sigmas[0])[0]


@pytest.mark.parametrize(
    ("failing", "name"),
    [
        (unknown_class, "LabelError"),
        (broken_checkpoint, "CheckpointError"),
        (no_run, "RunError"),
        (solver_that_gives_up, "SolverError"),
    ],
)
def test_an_error_is_shown_by_its_plain_name(
    graph: Graph, client: LiveClient, server, failing: Callable[[Graph], Output], name: str
) -> None:
    web_page = server.base / "models" / "fit" / "a_web_page.safetensors"
    web_page.write_bytes(b"<!DOCTYPE html><html>")
    graph.add("PreviewAny", source=failing(graph))
    with pytest.raises(PromptError) as error:
        client.run(graph.prompt)
    details = error.value.details
    assert details["exception_type"] == name
    assert name not in details["exception_message"]
    log = server.log()
    assert f"\n{name}: {details['exception_message'].splitlines()[0]}" in log
    assert f".{name}: " not in log

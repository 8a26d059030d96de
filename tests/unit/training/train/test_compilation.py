"""Compiled blocks: they learn the same, one graph serves all packs, and no trace is in a file."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from support.training_runs import farthest, small_config, weights

from training.train import compilation, train
from training.train.checkpoints.reader import latest
from training.train.compilation import compile_blocks
from training.train.config import ConfigError
from training.train.run import TrainingRun
from training.train.step import training_loss


@pytest.mark.slow
def test_a_compiled_run_learns_the_same_resumes_and_leaves_the_same_files(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the backend that compiles no code, since a compiler would take minutes."""
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")
    monkeypatch.setattr(compilation, "_try_compiler", lambda _: None)
    torch._dynamo.reset()
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    options = ["--held-out.share=0.2", "--held-out.every=2", "--activation-checkpointing"]
    train(small_config(data, plain, "--steps=4", *options))
    for steps in (2, 4):
        resumed = ["--compile", "--resume=latest", f"--steps={steps}"]
        train(small_config(data, compiled, *resumed, *options))
    for name in ("model", "ema-0.99", "state"):
        assert farthest(weights(plain, name), weights(compiled, name)) < 1e-5
    names = [sorted(file.name for file in latest(run).iterdir()) for run in (plain, compiled)]
    assert names[0] == names[1]


def counted_graphs(run: TrainingRun) -> list[torch.fx.GraphModule]:
    """The graphs that the run's blocks will be compiled to.

    They come from a backend that only keeps them, since a compiler would take minutes.
    """
    graphs = []

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    torch._dynamo.reset()
    for block in run.state.model.blocks:
        assert isinstance(block, torch.nn.Module)
        block.compile(dynamic=True, backend=count)
    return graphs


def test_packs_of_other_images_use_the_same_graphs(data: Path, tmp_path: Path) -> None:
    # A number of tokens that is also one of the model's sizes would get a graph of its own.
    run = TrainingRun(small_config(data, tmp_path, "--batch.token-budget=60"))
    graphs = counted_graphs(run)
    packs = list(islice(run.batches, 12))
    assert len({pack.grids for pack in packs}) > 5
    counts = []
    for pack in packs:
        training_loss(run.model, pack).backward()
        counts.append(len(graphs))
    # The second pack finds gradients of the first, to which its own are added.
    assert counts[1] == counts[-1], counts
    assert all("_orig_mod" not in key for key in run.state.model.state_dict())


def test_held_out_images_compile_nothing(data: Path, tmp_path: Path) -> None:
    run = TrainingRun(small_config(data, tmp_path, "--held-out.share=0.2"))
    graphs = counted_graphs(run)
    run.state.model.compiled = True
    assert run.held_out is not None
    run.held_out_loss(run.held_out)
    assert not graphs


def test_a_machine_without_a_compiler_is_told_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "no-such-compiler"))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    torch._dynamo.reset()
    run = TrainingRun(small_config(data, tmp_path))
    with pytest.raises(ConfigError, match=r"compile: .* needs a C\+\+ compiler.*--no-compile"):
        compile_blocks(run.state.model, torch.device("cpu"))

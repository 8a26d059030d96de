"""The plan of a run: what it says, and that it leaves nothing behind."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.training_runs import MODEL, SMALL, arguments

from training.train import main
from training.train.budgets import MemoryLine, gib
from training.train.config import TrainingConfig
from training.train.config_parser import parse_config
from training.train.packing import Position, steps_from
from training.train.plan import plan_options
from training.train.probe import Probe, memory_meter, probe
from training.train.process_memory import ProcessMemory
from training.train.run import TrainingRun


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.train.probe._SECONDS", 0.0)


def plan_of(
    capsys: pytest.CaptureFixture[str], data: Path, output: Path, *options: str
) -> dict[str, str]:
    """The lines of a plan by their names, and its notes under "notes"."""
    assert main(["--plan", *arguments(data, output, *options)]) == 0
    text, _, notes = capsys.readouterr().out.partition("worth a look")
    lines = [re.split(r"\s{2,}", line, maxsplit=1) for line in text.splitlines() if line]
    return {**{line[0]: line[-1] for line in lines}, "notes": notes}


def test_a_plan_says_what_a_run_takes_and_writes_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs" / "mine"
    options = ["--steps=500", "--held_out.share=0.2", "--samples.every=100"]
    lines = plan_of(capsys, data, output, *options, "--price-per-hour=2.5")
    assert list(tmp_path.iterdir()) == []
    assert re.match(r"\d+ of 3 classes, and \d+ held out", lines["images"])
    assert "M parameters" in lines["model"]
    assert "GiB of" in lines["memory"]
    assert re.match(r"[\d,]+ tokens/s, .* s per step", lines["speed"])
    assert "for 500 steps, of which" in lines["time"] or "for 500 steps" in lines["time"]
    assert "at 2.50 per hour" in lines["cost"]
    assert re.search(r"fewest: class\d [\d,]+ \(\d+ images\)", lines["images seen per class"])
    assert "per checkpoint" in lines["disk"]
    assert lines["activation checkpointing"] == "not needed"


def test_the_epochs_of_a_plan_are_those_of_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = plan_of(capsys, data, tmp_path / "run", "--steps=100", "--batch.accumulation=2")
    run = TrainingRun(small(data, tmp_path), writes=False)
    steps = steps_from(Position(), run.examples.draws, run.config.batch, 0, 2)
    images = sum(step.totals.images for step, _ in zip(steps, range(100), strict=False))
    assert lines["epochs"] == f"{images / 48:,.1f}, each of 48 images"


def small(data: Path, output: Path) -> TrainingConfig:
    return parse_config(arguments(data, output))


def test_the_disk_of_a_plan_is_that_of_a_checkpoint(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[float] = []
    monkeypatch.setattr("training.train.plan.gib", lambda size: sizes.append(size) or "")
    plan_of(capsys, data, tmp_path / "run")
    assert main(arguments(data, tmp_path / "run")) == 0
    files = (tmp_path / "run" / "checkpoints").rglob("*.safetensors")
    written = sum(file.stat().st_size for file in files)
    assert any(size == pytest.approx(written, rel=0.05) for size in sizes)


def test_each_process_holds_what_the_sizes_of_its_tensors_say(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = TrainingRun(replace(small(data, tmp_path), ema_decays=(0.9, 0.99)), writes=False)
    assert ProcessMemory.of(run).optimizer == 0
    probe(run, 64, once=True)
    memory = ProcessMemory.of(run, peak=10**9)
    parameters = list(run.state.model.parameters())
    weights = 4 * sum(p.numel() for p in parameters)
    assert (memory.weights, memory.gradients, memory.averages) == (weights, weights, 2 * weights)
    assert memory.optimizer == 2 * weights + 4 * len(parameters)  # two moments, and counts of steps
    assert memory.state + memory.activations == 10**9
    latents = run.latents
    index = latents.lengths.nbytes + latents.grids.nbytes + latents.class_ids.nbytes
    assert (memory.index, memory.ahead) == (index, 0)
    lines = plan_of(capsys, data, tmp_path / "run", "--ema-decays", "0.9", "0.99")
    assert lines["each process"].startswith(f"weights {gib(weights)}, gradients {gib(weights)}")
    assert f"{gib(memory.state / 8)} on each of 8" in lines["sharded by FSDP2"]
    known = f"0 MiB per process for batches ahead, and {gib(index)} per machine to know all images"
    assert lines["host memory"] == known


def test_what_is_odd_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--steps=4000", "--optimizer.warmup_steps=4000", "--ema_decays", "0.9999"]
    notes = plan_of(capsys, data, tmp_path / "run", *options)["notes"]
    for words in (
        r"Each of 48 images is seen \d+ times",
        "--held-out.share 0.05",
        "warm-up of 4,000 steps is as long as the run",
        "average of decay 0.9999 is made for runs of more than 10,000 steps",
        "checkpoints.every is 5,000, more than 4,000 steps",
    ):
        assert re.search(words, notes), words


def test_nothing_odd_needs_no_note(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--steps=200", "--checkpoints.every=50"]
    assert plan_of(capsys, data, tmp_path / "run", *options)["notes"] == ""


def test_a_plan_needs_no_output_and_leaves_the_runs_that_there_are_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--plan", "--data", str(data), *MODEL, *SMALL, "--steps=20"]
    assert main(words) == 0
    assert list(tmp_path.iterdir()) == []
    assert "Nothing was written" in capsys.readouterr().out
    assert main(arguments(data, tmp_path / "run", "--steps=2")) == 0
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["--plan", *arguments(data, tmp_path / "run", "--resume=latest")]) == 0
    assert "for 4 steps" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_adapters_and_padding_can_be_planned(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data, tmp_path / "base", "--steps=1")) == 0
    base = next((tmp_path / "base").rglob("ema-0.99.safetensors"))
    lines = plan_of(
        capsys, data, tmp_path / "lora", "--init", str(base), "--lora.rank=2", "--steps=20"
    )
    assert "per checkpoint" in lines["disk"]
    padded = ["--batch.packing=padded", "--batch.images=8"]
    assert "8 images" in str(plan_of(capsys, data, tmp_path / "padded", *padded))


def test_a_budget_that_does_not_fit_is_refused_before_it_is_tried(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    def probe(run: TrainingRun, budget: int, *_: int, once: bool = False) -> Probe:
        tried.append(budget)
        per_token = 2 if run.state.model.activation_checkpointing else 8
        memory = (100 + per_token * budget) * 2**20
        return Probe(budget, budget, budget / 16, budget, 1.0, memory)

    meter = memory_meter(torch.device("cpu"))
    few = replace(meter, available=lambda: 3000 * 2**20)
    monkeypatch.setattr("training.train.budgets.memory_meter", lambda device: few)
    monkeypatch.setattr("training.train.budgets.probe", probe)
    lines = plan_of(capsys, data, tmp_path / "run", "--batch.token_budget=512")
    assert 512 not in tried
    assert "512 tokens do not fit of 2.93 GiB: 4.10 GiB would be needed" in lines["memory"]
    assert "Try --batch.token-budget 256." in lines["memory"]
    assert "advised, --activation-checkpointing: up to about" in lines["activation checkpointing"]


def test_a_line_through_measurements_tells_what_fits() -> None:
    probes = [Probe(n, n, 1, n, 1.0, 1000 + 3 * n) for n in (10, 20, 80)]
    line = MemoryLine.of(probes)
    assert line is not None
    assert line.tokens_within(1600) == pytest.approx(200, abs=1)
    assert line.tokens_within(100) == 0
    assert MemoryLine.of(probes[:1]) is None
    assert MemoryLine.of([Probe(n, n, 1, n, 1.0, 0) for n in (10, 20)]) is None


def test_a_price_belongs_to_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_options(["--plan", "--price_per_hour", "3", "--steps=1"])[1] == ["--steps=1"]
    assert main(["--price-per-hour", "3"]) == 2
    assert "belongs to --plan" in capsys.readouterr().err
    assert main(["--plan", "--price-per-hour", "many"]) == 2

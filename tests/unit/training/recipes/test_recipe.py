"""The whole recipe with a small budget, from the registry to a report."""

import json
import subprocess
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from PIL import Image

from comfyui_fitv2.checkpoint import load_checkpoint
from sheets.class_sheet import read, sheet_path
from training.command_line import by_path
from training.recipes.flags import __main__ as recipe
from training.recipes.flags import bench, report
from training.sample.generate import SamplingSettings

SMALL_MODEL = [
    "--batch.token_budget=1024",
    "--samples.every=0",
    "--logging.tracker=none",
    "--logging.no-utilisation",
]


@pytest.fixture
def _few_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a process for the first command of each kind; the others run in this process.

    The recipe gives 19 commands, and each process needs seconds to start.
    """
    start, started = subprocess.run, set[str]()

    def run(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
        python, folder, verb, *rest = [*command, "", ""][: max(3, len(command))]
        if [python, folder, verb] != by_path(verb) or verb not in started:
            started.add(verb)
            return start(command, **options)
        status = import_module(f"training.{verb}").main(rest)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture
def _few_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generate each image of the report with a tenth of the evaluations that it says."""

    def shorter(solver: str, evaluations: int, *more: Any) -> SamplingSettings:
        return SamplingSettings(solver, evaluations // 10, *more)

    monkeypatch.setattr(bench, "SamplingSettings", shorter)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.network
@pytest.mark.usefixtures("_few_processes", "_few_evaluations")
def test_a_small_budget_goes_from_the_registry_to_a_report(package: Path, tmp_path: Path) -> None:
    copytree(package, tmp_path / "package")
    steps = [f"--{name}-steps=2" for name in ("vae", "decoder", "small", "large", "hr")]
    budget = ["--output", str(tmp_path), "--flags=2", *steps]
    assert recipe.main([*budget, *SMALL_MODEL]) == 0
    checkpoint, vae = tmp_path / recipe.MODEL_FILE, tmp_path / recipe.VAE_FILE
    loaded = load_checkpoint(checkpoint)
    assert loaded.class_names == ["Afghanistan", "Albania"]
    assert "ALB" in (loaded.class_synonyms or [[], []])[1]
    assert read(sheet_path(checkpoint)).layout.classes == 2
    before = checkpoint.stat().st_mtime_ns
    assert recipe.main([*budget, *SMALL_MODEL]) == 0  # there is nothing left to do
    assert checkpoint.stat().st_mtime_ns == before

    results = tmp_path / "RESULTS.md"
    files = ["--checkpoint", str(checkpoint), "--vae", str(vae), "--flags", str(package)]
    output = ["--output", str(tmp_path / "report"), "--results", str(results)]
    counts = ["--classes=2", "--beyond=1", "--methods", "none; ntk"]
    assert report.main([*files, *output, *counts]) == 0
    content = (tmp_path / "report" / "report.json").read_text(encoding="utf-8")
    assert [score["flags"] for score in json.loads(content)["scores"]] == [2] * 7 + [1] * 4
    assert results.read_text(encoding="utf-8").count("\n| native |") == 6
    for sheet in ("shapes.png", "beyond-1.5x.png", "beyond-2x.png", "all.png", "extrapolation.png"):
        assert min(Image.open(tmp_path / "report" / sheet).size) > 64

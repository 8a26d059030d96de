"""A whole study: planned, trained once, measured once, published."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.latent_sets import make_latent_set
from support.scaling_study import STUDY
from support.study_curves import power_law

from training.scaling import main
from training.scaling.config import Run
from training.scaling.curves import Curve
from training.scaling.trained import FailedRunError
from training.train.config import TrainingConfig

ROOT = Path(__file__).parents[4]


def study_in(folder: Path, text: str = STUDY) -> list[str]:
    """The options of a study in ``folder``."""
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return ["--config", str(folder / "study.yaml"), "--output", str(folder / "study")]


def test_a_wrong_key_for_the_trainer_ends_the_study_before_its_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(study_in(tmp_path, STUDY.replace("precision: fp32", "precison: fp32"))) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "precison" in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "study").exists()


def test_data_to_train_on_need_data_to_measure_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--output", str(tmp_path / "study"), "--data", "latents"]) == 2
    assert "--held-out" in capsys.readouterr().err


def test_a_plan_counts_the_runs_and_trains_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = study_in(tmp_path)
    assert main([*options, "--plan"]) == 0
    printed = capsys.readouterr().out
    assert "4 runs, 0 of them trained already. About 1 min to go" in printed
    assert "| FiT S | 2 | 2 |" in printed
    assert not (tmp_path / "study" / "runs").exists()
    assert not (tmp_path / "study" / "page").exists()
    (tmp_path / "study" / "probes.json").unlink()
    begun = tmp_path / "study" / "runs" / "FiT-S-seed-0"
    (begun / "checkpoints" / "step-00000001").mkdir(parents=True)
    assert main([*options, "--plan"]) == 0, "a model is measured anew though it was trained"


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.cases("P6")
def test_a_study_is_trained_once_measured_once_and_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "docs" / "scaling"
    arguments = [*study_in(tmp_path), "--page", str(page)]
    assert main(arguments) == 0
    results = json.loads((page / "results.json").read_text(encoding="utf-8"))
    curves = results["curves"]
    assert [(c["variant"], c["seed"], [p["step"] for p in c["points"]]) for c in curves] == [
        ("FiTv2", 0, [1, 2]),
        ("FiTv2", 1, [1, 2]),
        ("FiT", 0, [1, 2]),
        ("FiT", 1, [1, 2]),
    ]
    for curve in curves:
        assert set(curve["losses"]) == {"trained shapes", "larger"}
        assert curve["losses"]["trained shapes"] == curve["points"][-1]["loss"]
        assert curve["distances"]["trained shapes"] == curve["points"][-1]["distance"]
        assert curve["errors"]["trained shapes"] == curve["points"][-1]["error"]
        assert all(np.isfinite(p["loss"]) and p["flops"] > 0 for p in curve["points"])
        assert all(np.isfinite(p["distance"]) for p in curve["points"])
        assert curve["cpu_seconds"] > 0
    assert curves[0]["points"][0]["loss"] != curves[1]["points"][0]["loss"]  # another seed
    plots = ("convergence.png", "ablation.png", "ends.png", "samples.png")
    for plot in plots:
        with Image.open(page / plot) as plotted:
            assert np.asarray(plotted.convert("RGB")).std() > 5
    text = (page / "README.md").read_text(encoding="utf-8")
    assert "4 runs, seeds 0, 1," in text
    assert set(results["about"]["floors"]["trained shapes"]) == {
        "other drawings",
        "reconstructed",
        "blurred",
    }
    assert all(f"]({plot})" in text for plot in plots)
    assert f"--page {page}" in text
    assert "Not finished" not in text
    assert capsys.readouterr().out.endswith(text)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("worked twice")

    def full(*_: object, **__: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore lines.")

    with monkeypatch.context() as patched:
        patched.setattr("training.scaling.measure.held_out_loss", full)
        for file in tmp_path.rglob("measured.json"):
            file.rename(file.with_name("kept"))
        assert main(arguments) == 1
        for file in tmp_path.rglob("kept"):
            file.rename(file.with_name("measured.json"))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: the memory of the device ran out. Close what else uses it, or name smaller models "
        "in --config. The same command resumes."
    )
    for changed, message in (
        (("learning_rate: 1.0e-2", "learning_rate: 2.0e-2"), "learning_rate: 0.01 → 0.02"),
        (("{count: 24, side", "{count: 25, side"), "count: 24 → 25"),
    ):
        assert changed[0] in STUDY
        assert main(study_in(tmp_path, STUDY.replace(*changed))) == 1
        assert message in capsys.readouterr().err
    study_in(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    for work in (
        "measure.load_checkpoint",
        "measure.held_out_loss",
        "distances.draw",
        "distances.DistanceMeter.floors",
        "classifier._trained",
        "plan.probe",
        "data.prepare",
    ):
        monkeypatch.setattr(f"training.scaling.{work}", refuse)
    assert main(arguments) == 0
    assert capsys.readouterr().out == text
    assert json.loads((page / "results.json").read_text(encoding="utf-8")) == results


@pytest.mark.slow
def test_a_run_that_fails_leaves_the_others_to_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def fail(run: TrainingConfig, launcher: str) -> None:
        trained.append(Path(run.output).name)
        raise FailedRunError("its loss is not finite.")

    monkeypatch.setattr("training.scaling.train", fail)
    assert main(study_in(tmp_path)) == 1
    assert len(trained) == 4
    last = capsys.readouterr().err.splitlines()[-1]
    assert "4 runs failed: FiTv2 S seed 0, FiTv2 S seed 1, FiT S seed 0, FiT S seed 1." in last


@pytest.mark.slow
def test_the_page_is_written_after_every_training_and_shows_what_was_trained_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = {"FiT-S-seed-0"}
    pages: list[list[str]] = []

    def finish(run: TrainingConfig, launcher: str) -> None:
        finished.add(Path(run.output).name)

    def show(curves: Sequence[Curve], *_: object) -> None:
        pages.append([f"{curve.variant} {curve.seed}" for curve in curves])

    def measure(run: Run, *_: object) -> Curve:
        return power_law(1.0, 0.5, run.variant, run.size, run.seed)

    for name, fake in (
        ("train", finish),
        ("is_complete", lambda run: Path(run.output).name in finished),
        ("measured_curve", measure),
        ("write_page", show),
    ):
        monkeypatch.setattr(f"training.scaling.{name}", fake)
    assert main(study_in(tmp_path)) == 0
    assert pages == [
        ["FiTv2 0", "FiT 0"],
        ["FiTv2 0", "FiTv2 1", "FiT 0"],
        ["FiTv2 0", "FiTv2 1", "FiT 0", "FiT 1"],
    ]
    pages.clear()
    assert main(study_in(tmp_path)) == 0
    assert pages == [["FiTv2 0", "FiTv2 1", "FiT 0", "FiT 1"]]


@pytest.mark.slow
@pytest.mark.processes
def test_sets_of_the_user_are_trained_and_measured_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_latent_set(tmp_path / "mine", crop=(4, 4))
    make_latent_set(tmp_path / "others", seed=1)
    options = study_in(tmp_path, STUDY.replace("seeds: [0, 1]", "seeds: [0]"))
    options += ["--data", str(tmp_path / "mine"), "--held-out", str(tmp_path / "others")]
    assert main(options) == 0
    text = capsys.readouterr().out
    assert "Training: the latent set mine." in text
    assert "| model | measure | held out |" in text
    assert "drawn" not in text
    assert "samples.png" not in text
    assert not (tmp_path / "study" / "data").exists()


@pytest.mark.slow
@pytest.mark.processes
def test_a_study_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    text = STUDY.replace("seeds: [0, 1]", "seeds: [0]")
    arguments = study_in(tmp_path, text)
    runs = tmp_path / "study" / "runs"
    study = subprocess.Popen([sys.executable, "-m", "training.scaling", *arguments], cwd=ROOT)
    first = runs / "FiTv2-S-seed-0" / "measured.json"
    deadline = time.monotonic() + 300
    while not first.is_file():
        assert study.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    study.kill()
    study.wait()
    checkpoints = runs / "FiTv2-S-seed-0" / "checkpoints"
    before = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*.safetensors")}
    assert before
    assert main(arguments) == 0
    after = {path: path.stat().st_mtime_ns for path in checkpoints.rglob("*.safetensors")}
    assert after == before
    results = json.loads((tmp_path / "study" / "page" / "results.json").read_text("utf-8"))
    assert [curve["variant"] for curve in results["curves"]] == ["FiTv2", "FiT"]

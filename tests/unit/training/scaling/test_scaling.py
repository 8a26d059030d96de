"""A whole study: trained once, measured once, reported."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.scaling_study import STUDY

from training.scaling import main


def test_a_wrong_key_for_the_trainer_ends_the_study_before_its_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = STUDY.replace("precision: fp32", "precison: fp32")
    (tmp_path / "study.yaml").write_text(study, encoding="utf-8")
    output = tmp_path / "study"
    assert main(["--config", str(tmp_path / "study.yaml"), "--output", str(output)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "precison" in printed
    assert printed.count("\n") == 1
    assert not output.exists()


def test_data_to_train_on_need_data_to_measure_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--quick", "--output", str(tmp_path / "study"), "--data", "latents"]) == 2
    assert "--held-out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.cases("P6")
def test_a_study_is_trained_once_measured_once_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    output = tmp_path / "study"
    arguments = ["--config", str(tmp_path / "study.yaml"), "--output", str(output)]
    assert main(arguments) == 0
    curves = json.loads((output / "scaling.json").read_text(encoding="utf-8"))["curves"]
    steps = [(curve["family"], [point["step"] for point in curve["points"]]) for curve in curves]
    assert steps == [("FiTv2", [1, 2]), ("FiT", [1, 2])]
    points = [point for curve in curves for point in curve["points"]]
    assert all(np.isfinite(point["loss"]) and point["flops"] > 0 for point in points)
    with Image.open(output / "scaling.png") as plotted:
        assert np.asarray(plotted.convert("RGB")).std() > 5
    table = "".join(capsys.readouterr().out.partition("| model |")[1:])

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("worked twice")

    def full(*_: object, **__: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore lines.")

    with monkeypatch.context() as patched:
        patched.setattr("training.scaling.held_out_loss", full)
        for file in output.rglob("held_out.json"):
            file.rename(file.with_name("kept"))
        assert main(arguments) == 1
        for file in output.rglob("kept"):
            file.rename(file.with_name("held_out.json"))
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: the memory of the device ran out. Close what else uses it, or name smaller models "
        "in --config. The same command resumes."
    )
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr("training.scaling.held_out_loss", refuse)
    assert main(arguments) == 0
    assert capsys.readouterr().out == table

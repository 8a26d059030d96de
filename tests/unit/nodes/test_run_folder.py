"""Finding a run's newest weights, as the trainer writes them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from support.parts import cut_into_parts
from support.run_folders import CLASS_NAMES, make_run

from comfyui_fitv2 import read_checkpoint
from training.train.checkpoints import run_folder as trainers

# By its path: the package around it needs a ComfyUI.
_SPEC = importlib.util.spec_from_file_location(
    "fit_run_folder", Path(__file__).parents[3] / "nodes" / "run_folder.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
run_folder = importlib.util.module_from_spec(_SPEC)
sys.modules["fit_run_folder"] = run_folder
_SPEC.loader.exec_module(run_folder)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the runs runs/mine and runs/study/small."""
    make_run(tmp_path / "runs" / "mine")
    make_run(tmp_path / "runs" / "study" / "small")
    return tmp_path


def test_both_sides_agree_on_the_names(root: Path) -> None:
    for name in ("CHECKPOINTS", "SAMPLES", "SUMMARY", "LORA"):
        assert getattr(run_folder, name) == getattr(trainers, name)
    assert run_folder.WEIGHTS == trainers.MODEL
    newest = run_folder.newest(root / "runs" / "mine")
    assert newest.folder.name == trainers.step_name(20)
    assert trainers.step_of(newest.folder) == newest.step == 20
    for decay in (0.9, 0.9999):
        assert newest.weights_file(str(decay)).name == trainers.ema_file(decay)


@pytest.mark.parametrize(
    ("average", "file"),
    [
        ("", "ema-0.9999.safetensors"),
        ("0.9", "ema-0.9.safetensors"),
        (" EMA-0.90 ", "ema-0.9.safetensors"),
        ("ema-0.9.safetensors", "ema-0.9.safetensors"),
        ("none", "model.safetensors"),
    ],
)
def test_an_average_is_chosen_by_its_decay(root: Path, average: str, file: str) -> None:
    assert run_folder.newest(root / "runs" / "mine").weights_file(average).name == file


@pytest.mark.parametrize(
    ("average", "folder"),
    [("", "ema-0.9999.parts"), ("ema-0.9.parts", "ema-0.9.parts"), ("none", "model.parts")],
)
def test_what_several_processes_have_saved_is_found_too(
    root: Path, average: str, folder: str
) -> None:
    newest = run_folder.newest(root / "runs" / "mine")
    cut_into_parts(newest.folder)
    weights = newest.weights_file(average)
    assert (
        weights.name
        == folder
        == trainers.find_file(newest.folder, f"{weights.stem}.safetensors").name
    )
    assert read_checkpoint(weights).metadata.class_names == CLASS_NAMES
    assert f" · {weights.stem} · " in newest.describe(weights)
    part = next(weights.iterdir())
    assert run_folder.find_run(str(part), root) == root / "runs" / "mine"


@pytest.mark.parametrize("average", ["0.5", "fast", "../../secret", "nan"])
def test_an_average_that_is_not_there_is_refused_with_those_that_are(
    root: Path, average: str
) -> None:
    with pytest.raises(run_folder.RunError, match=r"It has: 0\.9, 0\.9999"):
        run_folder.newest(root / "runs" / "mine").weights_file(average)


@pytest.mark.parametrize(
    "text",
    [
        "runs/mine",
        ' "runs/mine" ',
        "{root}/runs/mine/",
        "runs/mine/checkpoints",
        "runs/mine/checkpoints/step-00000010",
        "runs/mine/checkpoints/step-00000010/ema-0.9.safetensors",
    ],
)
def test_a_run_is_found_by_what_people_paste(root: Path, text: str) -> None:
    assert run_folder.find_run(text.format(root=root), root) == root / "runs" / "mine"


def test_without_a_name_the_run_that_saved_last_is_taken(root: Path) -> None:
    os.utime(root / "runs/study/small/checkpoints/step-00000020/summary.json", (9e9, 9e9))
    assert run_folder.find_run(" ", root) == root / "runs" / "study" / "small"
    os.utime(root / "runs/mine/checkpoints/step-00000020/summary.json", (9.1e9, 9.1e9))
    assert run_folder.find_run("", root) == root / "runs" / "mine"


@pytest.mark.parametrize("text", ["nowhere", "runs", "/", "~", "\0", "runs/mine\nother"])
def test_what_is_no_run_is_refused_with_the_runs_there_are(root: Path, text: str) -> None:
    with pytest.raises(run_folder.RunError, match=r"not the folder of a training run.*mine.*small"):
        run_folder.find_run(text, root)


def test_a_run_without_a_checkpoint_says_when_there_will_be_one(tmp_path: Path) -> None:
    (tmp_path / "runs" / "new" / "checkpoints").mkdir(parents=True)
    with pytest.raises(run_folder.RunError, match="No training run was given, and none in"):
        run_folder.find_run("", tmp_path)
    with pytest.raises(run_folder.RunError, match="no complete checkpoint yet"):
        run_folder.newest(run_folder.find_run("runs/new", tmp_path))


def test_what_is_being_written_or_removed_is_passed_over(root: Path) -> None:
    run = root / "runs" / "mine"
    unfinished = run / "checkpoints" / "step-00000030"
    shutil.copytree(run / "checkpoints" / "step-00000020", unfinished)
    (unfinished / "summary.json").unlink()
    shutil.copytree(run / "checkpoints/step-00000020", run / "checkpoints/.step-00000040.7.tmp")
    (run / "checkpoints" / "notes.txt").write_text("mine")
    assert [c.step for c in run_folder.checkpoints(run)] == [10, 20]


def test_the_state_of_a_run_changes_with_each_checkpoint_and_sheet(root: Path) -> None:
    run = root / "runs" / "mine"
    before = run_folder.state_of(run)
    assert run_folder.state_of(run) == before
    (run / "samples").mkdir()
    for step in (5, 20):
        (run / "samples" / f"step-{step:08d}.png").write_bytes(b"")
    drawn = run_folder.state_of(run)
    assert run_folder.sample_sheet(run) == run / "samples" / "step-00000020.png"
    shutil.copytree(run / "checkpoints/step-00000020", run / "checkpoints/step-00000030")
    assert len({before, drawn, run_folder.state_of(run)}) == 3


def test_a_line_tells_how_far_the_run_is(root: Path) -> None:
    newest = run_folder.newest(root / "runs" / "mine")
    line = newest.describe(newest.weights_file())
    assert line.startswith(str(root / "runs" / "mine"))
    assert "step 20 of 20 · epoch 1 · 80 images · loss 0.5 · ema-0.9999 · saved 20" in line
    (newest.folder / "lora.safetensors").write_bytes(b"")
    assert "with the adapters of this LoRA run added" in newest.describe(newest.weights_file())


@pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000, json.dumps({"config": 3})])
def test_a_damaged_summary_is_no_obstacle(root: Path, content: str) -> None:
    newest = run_folder.newest(root / "runs" / "mine")
    (newest.folder / "summary.json").write_text(content)
    assert "step 20 · ema-0.9999" in newest.describe(newest.weights_file())

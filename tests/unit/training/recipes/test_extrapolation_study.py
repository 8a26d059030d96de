"""The extrapolation study: what it draws, what it skips, and its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from comfyui_fitv2 import FiT, FiTConfig, Metadata, save_checkpoint
from comfyui_fitv2.checkpoint import load_checkpoint
from comfyui_fitv2.recommendation import Recommendation
from training.data.bundled import BUNDLED_CHECKPOINT
from training.recipes.flags import extrapolation_study
from training.recipes.flags.bench import Cell, Score
from training.recipes.flags.extrapolation_page import Study, ranked, telling
from training.recipes.flags.extrapolation_study import StudyOptions, same_in_effect

CONFIG = FiTConfig(
    hidden_size=128, depth=1, num_heads=2, num_classes=3, adaln_lora_dim=8, train_length=4
)
COLOURS = {"aa": ("Red", "red"), "bb": ("Lime", "lime"), "cc": ("Blue", "blue")}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Three plain flags, laid out as the fetched package."""
    folder = tmp_path / "package"
    (folder / "png1000px").mkdir(parents=True)
    names = {code.upper(): name for code, (name, _) in COLOURS.items()}
    (folder / "countries.json").write_text(json.dumps(names))
    for code, (_, colour) in COLOURS.items():
        Image.new("RGB", (60, 40), colour).save(folder / "png1000px" / f"{code}.png")
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An untrained model of these flags, on latents of the bundled VAE."""
    path = tmp_path / "model.safetensors"
    bundled = load_checkpoint(BUNDLED_CHECKPOINT)
    names = sorted(name for name, _ in COLOURS.values())
    metadata = Metadata(
        CONFIG,
        names,
        latent_format=bundled.latent_format,
        recommended_extrapolation=[Recommendation(None, "linear")],
    )
    save_checkpoint(path, FiT(CONFIG).state_dict(), metadata)
    return path


def test_a_study_draws_scores_and_writes_its_page_and_the_same_command_draws_no_more(
    package: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"--output {tmp_path / 'out'} --page {tmp_path / 'page'} --flags {package} "
    arguments += f"--checkpoint {checkpoint} --classes 2 --second-classes 3 --best 1 "
    arguments += "--methods none linear --attention-scales none pro2 --sides 1.5 --shapes "
    arguments += "--evaluations 1"
    assert extrapolation_study.main(arguments.split()) == 0
    printed = capsys.readouterr().out
    assert "native 1.5x: 6 extrapolations, 12 images, 12 to draw" in printed
    assert "second pass at 1.5x: up to 1 images more" in printed
    page = (tmp_path / "page" / "README.md").read_text()
    assert page.startswith("# Beyond the trained size")
    assert (
        f"Written by `python -m training.recipes.flags.extrapolation_study {arguments}`"
        in " ".join(page.split())
    )
    assert "| 1.5× |" in page
    assert "| linear coupled + pro2 |" in page
    pictures = {path.name for path in (tmp_path / "page").glob("*.png")}
    assert pictures == {"top-1.png", "raggedness.png", "methods.png"}
    drawn = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert extrapolation_study.main(arguments.split()) == 0
    assert "12 images, 0 to draw" in capsys.readouterr().out
    assert drawn == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}


def test_what_is_the_same_in_effect_is_drawn_once() -> None:
    labels = StudyOptions().labels()
    assert len(labels) == (1 + 7 * 2) * 4 + 1
    config = FiTConfig(hidden_size=256, depth=1, num_heads=4, num_classes=1, adaln_lora_dim=8)
    metadata = Metadata(config, recommended_extrapolation=[Recommendation(None, "linear")])
    square = same_in_effect(labels, {(24, 24)}, metadata)
    assert square["linear coupled + pro2"] == "linear + pro2"
    assert square["auto"] == "linear"
    assert set(square.values()) == {label for label in labels[:-1] if "coupled" not in label}
    wide = same_in_effect(labels, {(9, 27)}, metadata)
    assert wide["linear coupled"] == "linear coupled"
    assert wide["linear + paper"] == "linear"  # 243 tokens are no more than trained
    assert same_in_effect(labels, {(16, 19)}, metadata)["riflex"] == "none"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--methods nkt", "method 'nkt' is unknown"),
        ("--attention-scales pro9", "attention_scale 'pro9' is unknown"),
        ("--classes 0", "--classes must be 1 or more, not 0"),
        ("--classes 20 --second-classes 10", "--second-classes must be 20 or more, not 10"),
        ("--best -1", "--best must be 0 or more, not -1"),
        ("--sides 2 0.5", "--sides must be 1 or more, not 0.5"),
        ("--shapes 3to1", "3to1"),
        ("--sides --shapes", "There is nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_opened(
    tmp_path: Path, options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["--output", str(tmp_path / "out"), "--page", str(tmp_path / "page")]
    assert extrapolation_study.main([*paths, *options.split()]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def score(method: str, top_1: float, distance: float, *wrong: str) -> Score:
    cell = Cell("native", 2.0, method)
    return Score(cell, 4, top_1, distance, 0.1, 20.0, dict.fromkeys(wrong, "other"))


def test_the_best_has_most_flags_right_and_then_the_smallest_distance() -> None:
    scores = [score("a", 0.5, 0.1), score("b", 0.75, 0.3), score("c", 0.75, 0.2)]
    assert [s.cell.method for s in ranked([*scores, scores[1]])] == ["c", "b", "a"]


def test_the_sheet_shows_the_flag_that_tells_most_extrapolations_apart() -> None:
    scores = [score("a", 0.5, 0.1, "x", "y"), score("b", 0.75, 0.3, "x")]
    study = Study({Cell("native", 2.0): {s.cell.method: s for s in scores}}, {})
    assert telling(study, ["x", "y", "z"]) == "y"

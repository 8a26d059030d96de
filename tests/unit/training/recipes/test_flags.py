from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import pytest
from PIL import Image

from comfyui_fitv2.checkpoint import load_checkpoint
from comfyui_fitv2.resolution import Resolution
from training.recipes.flags import __main__ as recipe
from training.recipes.flags import report
from training.recipes.flags.flags import METADATA, NATIVE, Flag, draw, fetch, read_flags

SMALL_MODEL = [
    "--batch.token_budget=512",
    "--samples.every=0",
    "--logging.tracker=none",
    "--logging.utilisation=false",
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flags") / "package"
    fetch(folder)
    return folder


@pytest.fixture(scope="module")
def flags(package: Path) -> list[Flag]:
    return read_flags(package)


def test_the_package_holds_256_flags_of_different_names(flags: list[Flag]) -> None:
    assert len({flag.name for flag in flags}) == 256
    assert [flag.name for flag in flags] == sorted(flag.name for flag in flags)


def test_a_native_size_has_the_flags_proportions_within_the_tokens(flags: list[Flag]) -> None:
    sizes = {flag.code: flag.native(256) for flag in flags}
    assert (sizes["ch"], sizes["np"], sizes["qa"]) == (
        Resolution(256, 256),
        Resolution(224, 272),
        Resolution(400, 160),
    )
    assert all(228 <= size.tokens <= 256 for size in sizes.values())


def test_a_transparent_corner_is_white(flags: list[Flag]) -> None:
    nepal = next(flag for flag in flags if flag.code == "np")
    assert nepal.picture(nepal.native(256)).getpixel((220, 5)) == (255, 255, 255)


def test_versions_are_drawn_once_each_with_their_label(flags: list[Flag], tmp_path: Path) -> None:
    swiss = [flag for flag in flags if flag.code == "ch"]
    draw(swiss, tmp_path, [(NATIVE, 64), ("1:1", 64), ("2:1", 64)])  # the first two are one size
    rows = [json.loads(line) for line in (tmp_path / METADATA).read_text().splitlines()]
    assert rows == [
        {"file": "ch/128x128.png", "label": "Switzerland"},
        {"file": "ch/176x80.png", "label": "Switzerland"},
    ]
    assert Image.open(tmp_path / "ch" / "176x80.png").size == (176, 80)


@pytest.mark.parametrize("size", [(304, 208), (256, 256), (160, 336)])
def test_a_flag_stretched_to_any_shape_is_told_to_be_itself(
    flags: list[Flag], size: tuple[int, int]
) -> None:
    judge = report.Judge(flags)
    for own in (3, 77, 200):
        nearest, distance = judge.judge(flags[own].picture(Resolution(*size)), own)
        assert nearest == own
        assert distance < 0.02


def test_another_flag_is_wrong_and_another_name_of_the_same_is_right(flags: list[Flag]) -> None:
    judge = report.Judge(flags)
    number = {flag.code: i for i, flag in enumerate(flags)}
    finland, united_states, outlying = (
        flags[number[code]].picture(Resolution(304, 208)) for code in ("fi", "us", "um")
    )
    assert judge.judge(finland, number["se"])[0] == number["fi"]
    assert judge.judge(united_states, number["um"])[0] == number["um"]
    assert judge.judge(outlying, number["us"])[0] == number["us"]


def test_a_small_budget_goes_from_the_registry_to_a_report(package: Path, tmp_path: Path) -> None:
    copytree(package, tmp_path / "package")
    budget = [
        "--output",
        str(tmp_path),
        "--flags=2",
        "--vae-steps=2",
        "--decoder-steps=2",
        "--small-steps=2",
        "--large-steps=2",
    ]
    assert recipe.main([*budget, *SMALL_MODEL]) == 0
    checkpoint, vae = tmp_path / recipe.MODEL_FILE, tmp_path / recipe.VAE_FILE
    loaded = load_checkpoint(checkpoint)
    assert loaded.class_names == ["Afghanistan", "Albania"]
    before = checkpoint.stat().st_mtime_ns
    assert recipe.main([*budget, *SMALL_MODEL]) == 0  # there is nothing left to do
    assert checkpoint.stat().st_mtime_ns == before

    results = tmp_path / "RESULTS.md"
    files = [
        "--checkpoint",
        str(checkpoint),
        "--vae",
        str(vae),
        "--flags",
        str(package),
        "--results",
        str(results),
    ]
    options = [
        "--output",
        str(tmp_path / "report"),
        "--classes=2",
        "--beyond=1",
        "--methods=none; ntk",
    ]
    assert report.main([*files, *options]) == 0
    scores = json.loads((tmp_path / "report" / "report.json").read_text())["scores"]
    assert [score["flags"] for score in scores] == [2] * 6 + [1] * 4
    assert results.read_text().count("\n| native |") == 7
    for sheet in ("shapes.png", "beyond-1.5x.png", "beyond-2x.png", "all.png", "extrapolation.png"):
        assert min(Image.open(tmp_path / "report" / sheet).size) > 64

"""The command measures every size and method once, and opens the checkpoint once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.discs import make_discs
from support.nasty_images import make_nasty_images

from training.evaluate import main
from training.evaluate.extractors import RandomFeatures
from training.sample import sampler


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_discs(tmp_path_factory.mktemp("discs"))


@pytest.fixture
def arguments(bundled_checkpoint: Path, discs: Path, tmp_path: Path) -> list[str]:
    what = [
        "--checkpoint",
        str(bundled_checkpoint),
        "--reference",
        str(discs),
        "--output",
        str(tmp_path / "results"),
    ]
    return [
        *what,
        "--classes",
        "0,1",
        "--count",
        "2",
        "--sizes",
        "32x32,48x16",
        "--steps",
        "1",
        "--solver",
        "euler",
        "--device",
        "cpu",
    ]


@pytest.mark.parametrize(
    "methods", [["none; NTK + pro2"], ["none", "NTK + pro2", "ntk+pro2"]], ids=["one", "several"]
)
def test_every_size_and_method_gets_a_row_in_table_json_and_plot(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, methods: list[str]
) -> None:
    assert main([*arguments, "--extrapolations", *methods]) == 0
    results = json.loads((tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8"))
    expected = [(size, method) for size in ("32x32", "48x16") for method in ("none", "ntk + pro2")]
    assert [(row["size"], row["extrapolation"]) for row in results["rows"]] == expected
    for row in results["rows"]:
        assert row["images"] == 4
        assert np.isfinite(list(row["metrics"].values())).all()
    reference = results["references"]["48x16"]
    assert (reference["images"], reference["enlarged"], reference["unreadable"]) == (24, 0, {})
    assert reference["floor"]["images"] == 4
    assert reference["floor"]["metrics"].keys() == {
        "random-feature distance",
        "precision",
        "recall",
    }
    table = (tmp_path / "results" / "evaluation.md").read_text(encoding="utf-8")
    assert table.strip() == capsys.readouterr().out.strip()
    assert table.count("| ntk + pro2 |") == 2
    with Image.open(tmp_path / "results" / "evaluation.png") as plot:
        assert np.asarray(plot.convert("RGB")).std() > 10


def test_distances_of_random_features_are_not_called_fid(
    arguments: list[str], tmp_path: Path
) -> None:
    assert main(arguments) == 0
    results = json.loads((tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8"))
    table = (tmp_path / "results" / "evaluation.md").read_text(encoding="utf-8")
    assert "random-feature distance" in results["rows"][0]["metrics"]
    assert "| random-feature distance ↓ |" in table
    assert "NOT comparable with published" in table
    assert "FID" not in table


def test_the_checkpoint_is_opened_and_hashed_once(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("load_checkpoint", "file_digest", "open_vae", "vae_digest"):
        monkeypatch.setattr(sampler, name, counted(getattr(sampler, name), name, calls))
    assert main([*arguments, "--extrapolations", "none", "ntk", "ntk + pro2"]) == 0
    assert sorted(calls) == ["file_digest", "load_checkpoint", "open_vae", "vae_digest"]


def counted(function: Callable[..., Any], name: str, calls: list[str]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return function(*arguments, **options)

    return call


def test_the_same_command_again_generates_and_measures_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments) == 0
    first = (tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("worked twice")

    monkeypatch.setattr(sampler, "generate", refuse)
    monkeypatch.setattr(RandomFeatures, "forward", refuse)
    assert main(arguments) == 0
    assert (tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--reference", "nowhere"], "--reference nowhere"),
        (["--extrapolations", "magic"], "magic"),
        (["--extrapolations", ";"], "--extrapolations"),
        (["--inception", "none.pth"], "none.pth"),
        (["--classes", "nowhere land"], "nowhere land"),
        (["--reference-count", "0"], "--reference-count"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_generated(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    changed: list[str],
    message: str,
) -> None:
    assert main([*arguments, *changed]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_references_of_several_splits_stop_before_anything_is_generated(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = tmp_path / "q"
    for split in ("train", "val"):
        make_discs(root / split, count=4)
    changed = [*arguments, "--reference", str(root)]
    assert main(changed) == 1
    printed = capsys.readouterr().err
    assert f"such as --reference {root}/train" in printed
    assert "--ignore-problems" in printed
    assert not (tmp_path / "results").exists()
    assert main([*changed, "--ignore-problems"]) == 0


def test_results_among_the_references_are_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The next run would compare generated images with themselves."""
    make_discs(tmp_path / "photos", count=4)
    for output in ("photos", "photos/results"):
        folders = ["--reference", str(tmp_path / "photos"), "--output", str(tmp_path / output)]
        assert main([*arguments, *folders]) == 1
        assert "would count among them the next time" in capsys.readouterr().err
    assert not (tmp_path / "photos" / "results").exists()


@pytest.mark.cases("D6", "D7", "D9", "D10")
def test_references_are_listed_and_converted_as_images_of_training_are(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = tmp_path / "nasty"
    expected = make_nasty_images(root)
    sizes = ["--reference", str(root), "--sizes", "32x32"]
    assert main([*arguments, *sizes]) == 0
    results = json.loads((tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8"))
    usable = [file for file, found in expected.items() if found.size is not None]
    reference = results["references"]["32x32"]
    assert reference["images"] == len(usable) + 1, "and the one outside of a class"
    broken = {file for file, e in expected.items() if e.class_name and e.size is None}
    assert reference["unreadable"].keys() == broken
    assert "formats/@eaDir" in results["left_out"]
    assert f"left out of {root}" in capsys.readouterr().err


def test_another_reference_needs_another_report_and_generates_nothing(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    assert main(arguments) == 0
    first = (tmp_path / "results" / "evaluation.json").read_bytes()
    others = make_discs(tmp_path / "others", count=8)
    monkeypatch.setattr(sampler, "generate", None)
    assert main([*arguments, "--reference", str(others)]) == 1
    refused = capsys.readouterr().err.strip().splitlines()[-1]
    assert "evaluation.json is another comparison (reference: discs0 → others)" in refused
    assert "--report second" in refused
    assert main([*arguments, "--reference", str(others), "--report", "second"]) == 0
    assert (tmp_path / "results" / "evaluation.json").read_bytes() == first
    second = json.loads((tmp_path / "results" / "second.json").read_text(encoding="utf-8"))
    assert second["reference"] == "others"
    (others / "000.png").unlink()
    assert main([*arguments, "--reference", str(others), "--report", "second"]) == 1
    assert "compares with other images at 32x32" in capsys.readouterr().err


@pytest.mark.cases("P6")
def test_memory_that_runs_out_is_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*values: Any, **options: Any) -> None:
        raise RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GiB).\nMore lines.")

    monkeypatch.setattr(sampler, "generate", full)
    assert main(arguments) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the memory of the device ran out. Lower --batch-tokens")

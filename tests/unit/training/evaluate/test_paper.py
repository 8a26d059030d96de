"""The paper's numbers, which row of them a checkpoint is compared with, and the table of both."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.discs import make_discs
from support.pooling_vae import PoolingVAE

from comfyui_fitv2 import FiT, FiTConfig
from comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor, save_checkpoint
from comfyui_fitv2.config import PRESETS
from comfyui_fitv2.metadata import Metadata
from training.command_line import OptionError
from training.evaluate import main
from training.evaluate.metrics import INCEPTION_METRICS
from training.evaluate.paper import (
    Comparison,
    PaperRow,
    comparison,
    paper_rows,
)
from training.evaluate.paper_report import beside_paper
from training.evaluate.report import Evaluation, Reference, Row
from training.sample import sampler


def row(table: str, name: str) -> PaperRow:
    return next(row for row in paper_rows(table) if row.name == name)


@pytest.mark.parametrize(("table", "models", "cells"), [
    ("II", 8, 60), ("III", 1, 21), ("IV", 3, 9), ("V", 3, 9), ("VI", 2, 6)
])  # fmt: skip
def test_every_model_of_a_table_has_all_its_cells(table: str, models: int, cells: int) -> None:
    rows = paper_rows(table)
    assert len(rows) == models
    assert sum(len(row.cells) for row in rows) == cells
    names = {"FID"} if table == "II" else {*INCEPTION_METRICS}
    assert all(cell.metrics.keys() == names for row in rows for cell in row.cells)


def test_the_papers_height_x_width_becomes_width_x_height() -> None:
    cell = row("III", "FiTv2-XL/2").cell(2_000_000, 1.5, "448x224", "ntk + pro2")
    assert cell is not None
    assert cell.metrics == {"FID": 5.54, "sFID": 14.53, "IS": 233.11, "precision": 0.77,
                            "recall": 0.51}  # fmt: skip
    assert row("VI", "FiTv2-3B/2").guidance_scales == [1.6]
    assert row("II", "FiTv2-B/2").all_steps == [400_000, 1_000_000, 1_500_000, 2_000_000]
    assert row("II", "Config D").cell(2_000_000, 1.0, "256x256", "none") is None


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes a checkpoint; only its header is true where it is of a published size."""

    def write(config: FiTConfig, step: int | None = None) -> Path:
        small = config if config.hidden_size < 100 else TINY
        path = tmp_path / "mine.safetensors"
        training = {} if step is None else {"step": step}
        state = FiT(small).state_dict()
        save_checkpoint(path, state, Metadata(config, training=training))
        return path

    return write


TINY = FiTConfig(hidden_size=16, depth=1, num_heads=2, num_classes=2, adaln_lora_dim=4)


def compared(*words: str) -> Comparison:
    found = comparison(words)
    assert found is not None
    return found


def test_a_checkpoint_is_compared_with_the_model_of_its_architecture(
    checkpoint: Callable[..., Path],
) -> None:
    xl = str(checkpoint(PRESETS["fitv2-xl"], step=2_000_000))
    assert compared("--table", "v", "--checkpoint", xl).row == row("V", "FiTv2-XL/2")
    found = compared("--table", "III", "--checkpoint", xl)
    assert found.same_architecture
    options = found.options()
    assert [words[-1] for words in options] == ["1.5"]
    assert options[0][-6:-2] == ["--solver", "dopri5", "--count", "50"]
    assert "ntk + pro2" in options[0]
    ablated = str(checkpoint(PRESETS["fitv2-b"], step=1_000_000))
    with pytest.raises(OptionError, match=r"Config C, FiTv2-B/2.*--row"):
        comparison(["--table", "II", "--checkpoint", ablated])
    found = compared("--table", "II", "--checkpoint", ablated, "--row", "config c")
    assert found.row.name == "Config C"
    assert found.paper_steps == 1_000_000
    assert [words[-1] for words in found.options()] == ["1", "1.5"]
    with pytest.raises(OptionError, match=r"no row of Table IV.*--row"):
        comparison(["--table", "IV", "--checkpoint", ablated])


def test_a_pickle_is_compared_too(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    """The release of 3B is one. Here a small model with our metadata stands for it."""
    state = load_file(checkpoint(TINY))
    state[METADATA_TENSOR] = metadata_tensor(Metadata(TINY, training={"step": 5}))
    pickle = tmp_path / "model_ema.bin"
    torch.save(state, pickle)
    assert compared("--table", "III", "--checkpoint", str(pickle)).trained_steps == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "VII"], "II: from FiT-B/2"),
        (["--table", "III", "--row", "DiT"], "Table III has FiTv2-XL/2"),
        (["--row", "Config A"], "--table"),
    ],
)
def test_another_table_or_row_is_named_with_what_there_is(words: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=re.escape(message)):
        comparison(words)
    assert comparison(["--checkpoint", "x"]) is None


def evaluation(of: PaperRow, guidance: float, **changed: Any) -> Evaluation:
    metrics = dict.fromkeys(INCEPTION_METRICS, 7.25)
    values: dict[str, Any] = {
        "checkpoint": "mine.safetensors",
        "features": "inception-12345678",
        "published": True,
        "settings": {"steps": 20, "solver": "dopri5", "guidance_scale": guidance, "seed": 0},
        "reference": "imagenet",
        "references": {size: Reference(50_000, 0, {}) for size in of.sizes},
        "rows": [
            Row(size, 400, method, 50_000, metrics)
            for size in of.sizes
            for method in of.extrapolations
        ],
    }
    return Evaluation(**{**values, **changed})


def test_the_papers_number_is_beside_ours() -> None:
    of = row("III", "FiTv2-XL/2")
    metadata = Metadata(PRESETS["fitv2-xl"], training={"step": 2_000_000})
    table = beside_paper(Comparison(of, metadata, (1.5,)), [evaluation(of, 1.5)])
    assert "| 320x320 | linear coupled | 1.5 | 50000 | 7.25 (11.47) | 7.25 (21.131) |" in table
    assert "| FID ↓ (paper) | sFID ↓ (paper) | IS ↑ (paper) |" in table
    assert "Not as in the paper" not in table
    assert "cannot be compared" not in table
    assert "ADM" in table


def test_what_differs_from_the_papers_protocol_is_listed() -> None:
    of = row("II", "Config E")
    metadata = Metadata(PRESETS["fitv2-b"], training={"step": 100})
    settings = {"steps": 50, "solver": "heun", "guidance_scale": 4.0, "seed": 0}
    given = evaluation(of, 4.0, settings=settings)
    table = beside_paper(Comparison(of, metadata, (4.0,)), [given])
    assert "| 256x256 | none | 4 | 50000 | 7.25 (–) | 7.25 |" in table
    assert "does not have the architecture of Config E" in table
    assert "trained for 100 steps" in table
    assert "50 steps of heun in place of dopri5" in table
    assert "guidance scale 4 in place of 1 and 1.5" in table


@pytest.fixture
def drawing(
    checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Options that draw two images per class and cell in no time, with a checkpoint and features
    that are not the paper's."""
    monkeypatch.setattr(sampler, "open_vae", lambda *_: PoolingVAE())
    monkeypatch.setattr(sampler, "_check_vae", lambda *_: None)
    return [
        *("--checkpoint", str(checkpoint(TINY)), "--device", "cpu", "--count", "2"),
        *("--reference", str(make_discs(tmp_path / "discs", count=6))),
        *("--output", str(tmp_path / "results"), "--solver", "euler", "--steps", "1"),
    ]


@pytest.mark.slow
def test_table_iii_is_drawn_with_all_its_methods_and_says_what_it_is_not(
    drawing: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--table", "III", *drawing]) == 0
    printed = capsys.readouterr().out
    assert "cannot be compared with the paper's" in printed
    assert "| random-feature distance ↓ (paper: FID) |" in printed
    assert "| precision ↑ (paper) |" in printed
    assert "does not have the architecture of FiTv2-XL/2" in printed
    assert "1 step of euler in place of dopri5" in printed
    assert "4 images per line in place of 50,000" in printed
    lines = [line for line in printed.splitlines() if "| 1.5 | 4 |" in line]
    assert len(lines) == 21
    assert len([line for line in lines if line.startswith("| 448x224 ")]) == 7
    assert "(13.55)" in next(line for line in lines if "| 480x160 | ntk + pro2 |" in line)
    written = (tmp_path / "results" / "table-III.md").read_text(encoding="utf-8")
    assert written.strip() == printed.strip()


def test_other_options_win_over_the_table(
    drawing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = ["--sizes", "320x320", "64x64", "--extrapolations", "ntk + pro2", "--guidance", "1.5"]
    assert main(["--table", "III", *drawing, *fewer]) == 0
    printed = capsys.readouterr().out
    assert "cannot be compared with the paper's" in printed
    lines = [line for line in printed.splitlines() if "| 1.5 | 4 |" in line]
    assert [line.split(" | ")[0] for line in lines] == ["| 320x320", "| 64x64"]
    assert "(3.55)" in lines[0]
    assert "(–)" in lines[1]


def test_table_ii_is_drawn_without_and_with_guidance_and_resumes(
    drawing: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--table", "II", "--row", "Config F", *drawing]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for start, fid in (("| 256x256 | none | 1 | 4 |", 28.49), ("| 256x256 | none | 1.5 |", 9.98)):
        assert f"({fid})" in next(x for x in printed.splitlines() if x.startswith(start))
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "guidance-1",
        "guidance-1.5",
        "reference",
        "table-II.md",
    }
    monkeypatch.setattr(sampler, "generate", None)
    assert main(words) == 0
    assert capsys.readouterr().out == printed


def test_a_checkpoint_of_no_row_stops_before_anything_is_generated(
    drawing: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--table", "VI", *drawing]) == 2
    assert capsys.readouterr().err.startswith(
        "error: the checkpoint has the architecture of no row"
    )
    assert not (tmp_path / "results").exists()

"""Every row of the paper's tables has a configuration that trains its model, and exact commands."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from training.command_line import parse_options
from training.evaluate import EvaluateOptions
from training.evaluate.paper import TABLES, comparison, paper_rows
from training.prepare import PrepareOptions
from training.recipes.paper.runs import TRAININGS, RowOfTable, Training, cost_table, rows, size

ROOT = Path(__file__).resolve().parents[4]
FOLDER = ROOT / "training" / "recipes" / "paper"
ROWS = rows()
MILLIONS = {"table2-c": 128, "fitv2-b": 128, "fit-xl": 824, "fitv2-xl": 671, "fitv2-xl-hr": 671}
"""Parameters by Table I; the other models of Table II have 159 M, and 3B has 2,972 M."""


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def readme() -> list[str]:
    """The command lines and table lines of the README, continued ones in one line."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize("training", TRAININGS.values(), ids=list(TRAININGS))
def test_a_configuration_is_accepted_and_builds_its_model(training: Training) -> None:
    model = training.model()
    assert next(model.parameters()).is_meta
    millions = round(size(training).parameters / 1e6)
    assert millions == MILLIONS.get(training.run, 2972 if "3b" in training.run else 159)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.row.table} {row.row.name}")
def test_it_has_the_architecture_and_the_steps_of_the_row(row: RowOfTable) -> None:
    config = row.training.config()
    assert config.model is not None
    model = config.model.for_data(1000, 4)
    assert replace(model, train_length=16) == row.row.architecture
    assert config.steps in row.row.all_steps
    assert config.steps in (*config.checkpoints.milestones, row.row.all_steps[-1])


def test_rows_differ_in_what_the_ablation_changes() -> None:
    columns = {
        row.row.name: (
            row.row.architecture.prediction,
            row.row.architecture.qk_norm,
            row.row.architecture.adaln_lora_dim > 0,
            row.training.config().batch.crop > 0,
            row.training.config().flow.timesteps,
        )
        for row in ROWS
        if row.row.table == "II"
    }
    flow = "velocity"
    assert columns.pop("FiT-B/2")[:4] == ("epsilon", False, False, False)
    assert columns == {
        "Config A": (flow, False, False, False, "uniform"),
        "Config B": (flow, True, False, False, "uniform"),
        "Config C": (flow, True, True, False, "uniform"),
        "Config D": (flow, False, False, True, "uniform"),
        "Config E": (flow, True, False, True, "uniform"),
        "Config F": (flow, True, False, True, "logit-normal"),
        "FiTv2-B/2": (flow, True, True, True, "logit-normal"),
    }


def test_no_row_and_no_file_is_left_out() -> None:
    assert [row.row for row in ROWS] == [row for table in TABLES for row in paper_rows(table)]
    used = {Path(name) for training in TRAININGS.values() for name in training.configs}
    assert {ROOT / path for path in used if path.suffix} == {*FOLDER.glob("*.yaml")}


def test_the_readme_has_the_commands_of_every_row_and_what_they_cost(readme: list[str]) -> None:
    for training in TRAININGS.values():
        assert training.command() in readme
    for row in ROWS:
        assert (row.command() in readme) == row.can_be_evaluated
    for line in cost_table().splitlines():
        assert line in readme


def test_the_commands_that_prepare_and_evaluate_are_accepted(readme: list[str]) -> None:
    sets = {}
    for line in readme:
        if "-m training.prepare" in line:
            options = parse_options(PrepareOptions, _options(line), prog="prepare")
            sets[str(options.output)] = options.image_size
    assert sets == {"latents/256": 256, "latents/512": 512}
    for row in ROWS:
        words = row.words()
        at = words.index("--checkpoint")
        found = comparison([*words[:at], *words[at + 2 :]])
        assert found is not None
        assert found.row == row.row
        for protocol in found.options():
            with_table = {"--table", "--row"}
            own = [w for i, w in enumerate(words) if not {w, words[max(i - 1, 0)]} & with_table]
            options = parse_options(EvaluateOptions, [*protocol, *own], prog="evaluate")
            assert (options.solver, options.count) == ("dopri5", 50)


def _options(line: str) -> list[str]:
    words = shlex.split(line)
    return words[words.index("training.prepare") + 1 :]

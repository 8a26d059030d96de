"""What all tests share: golden numbers of the published code (tests/golden/README.md), seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig

GOLDEN = Path(__file__).parent / "golden"
MODELS = Path(__file__).parent.parent / "models"

_ROWS = {"D": 11, "N": 5, "C": 7, "P": 10}
CASES = [f"{letter}{number + 1}" for letter, count in _ROWS.items() for number in range(count)]
"""Inputs made after public reports: images and tables (D), typed text (N), checkpoints (C), and
devices and other software (P). Each has a test, marked ``cases("D1")``."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a ComfyUI; make ``-m cases -k D1`` find a case by its number.

    ``tests -m cases`` stops if a case has no test.
    """
    tested: set[str] = set()
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("host")
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        numbers = {number for mark in item.iter_markers("cases") for number in mark.args}
        item.extra_keyword_matches |= numbers
        tested |= numbers
    if unknown := sorted(tested - {*CASES}):
        raise pytest.UsageError(f"no such case: {', '.join(unknown)}")
    missing = [case for case in CASES if case not in tested]
    chosen = {Path(argument).resolve() for argument in config.args}
    everything = chosen == {Path(__file__).parent} and not config.option.keyword
    if config.option.markexpr == "cases" and everything and missing:
        raise pytest.UsageError(f"cases without a test: {', '.join(missing)}")


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    return load_file(GOLDEN / "fitv2_small.safetensors")


@pytest.fixture(scope="session")
def golden_config() -> FiTConfig:
    return FiTConfig(hidden_size=96, depth=3, num_heads=4, num_classes=10, adaln_lora_dim=24)


@pytest.fixture(scope="session")
def golden_state(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix("state/"): value
        for key, value in golden.items()
        if key.startswith("state/")
    }


@pytest.fixture(scope="session")
def golden_model(golden_config: FiTConfig, golden_state: dict[str, Tensor]) -> FiT:
    model = FiT(golden_config)
    model.load_state_dict(golden_state, strict=True)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def bundled_checkpoint() -> Path:
    return MODELS / "fit" / "fitv2_flags256.safetensors"


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)

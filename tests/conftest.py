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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a ComfyUI, so that no test has to remember it."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("host")


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

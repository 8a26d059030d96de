"""The cost of a step."""

import pytest
import torch
from support.run_folders import SMALL

from training.train import flops
from training.train.flops import TrainingCost
from training.train.model import TrainedFiT
from training.train.packing import Position, StepTotals


def test_the_cost_of_training_is_6_flops_per_weight_and_token_and_attention() -> None:
    model = TrainedFiT(SMALL, device="meta")
    d, hidden = 32, SMALL.mlp_hidden_size
    per_token = 16 * d + 2 * (4 * d * d + 3 * d * hidden) + d * 16
    per_image = 256 * d + d * d + 6 * d * d + 2 * (d * 8 + 8 * 6 * d) + 2 * d * d
    cost = TrainingCost.of(model, d, 2)
    assert (
        cost.flops(StepTotals(3, 40, 64, 700, Position()))
        == 6 * per_token * 40 + 6 * per_image * 3 + 12 * d * 2 * 700
    )
    model.requires_grad_(False)
    assert TrainingCost.of(model, d, 2).per_token == 4 * per_token


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_a_product_is_timed_until_the_device_has_finished(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls return at once there, and the rate would be any number."""
    said: list[str] = []

    def wait(device: torch.device) -> None:
        said.append("waited")

    monkeypatch.setattr(torch.accelerator, "synchronize", wait)
    flops._seconds(lambda: said.append("worked"), 2, torch.device(kind))
    assert said == ["worked", "worked", "waited"]

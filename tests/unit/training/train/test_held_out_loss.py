"""The loss that models of every kind are compared by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from support.latent_sets import make_latent_set
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig
from comfyui_fitv2.flow import ddpm_signal
from training.data import open_latent_set
from training.data.latent_set import LatentSet
from training.train.held_out_loss import held_out_loss, held_out_times

CPU = torch.device("cpu")
FOUR_TIMES = held_out_times(4)


def small(prediction: str = "velocity") -> FiTConfig:
    return FiTConfig(
        hidden_size=16,
        depth=1,
        num_heads=2,
        num_classes=3,
        adaln_lora_dim=4,
        prediction=prediction,
    )


class Oracle(FiT):
    """Knows the data of every image, and gives the output that it should, plus ``error``."""

    def __init__(self, prediction: str, latents: LatentSet, times: int, error: float = 0.0) -> None:
        super().__init__(small(prediction))
        self.error = error
        self.answers = iter(
            [latents.moments(i, False, False)[0] for i in range(len(latents)) for _ in range(times)]
        )

    def forward_packed(
        self, latents: Sequence[Tensor], t: Tensor, y: Tensor, extrapolation: object = None
    ) -> list[Tensor]:
        out = []
        for x, time in zip(latents, t, strict=True):
            data = next(self.answers)
            if self.config.prediction == "velocity":
                out.append((data - x) / (1 - time) + self.error)
            else:
                signal = ddpm_signal()[int(time)]
                out.append((x - signal.sqrt() * data) / (1 - signal).sqrt() + self.error)
        return out


@pytest.fixture
def latents(tmp_path: Path) -> LatentSet:
    return open_latent_set(make_latent_set(tmp_path / "latents"))


@pytest.mark.parametrize("prediction", ["velocity", "epsilon"])
def test_a_model_that_knows_the_answer_has_no_loss_whatever_it_predicts(
    latents: LatentSet, prediction: str
) -> None:
    assert held_out_loss(Oracle(prediction, latents, 4), latents, [0, 1, 2], FOUR_TIMES, CPU) < 1e-8


def test_an_error_of_the_noise_counts_as_the_velocity_it_stands_for(latents: LatentSet) -> None:
    model = Oracle("epsilon", latents, 4, error=0.1)
    expected = float((0.1 / torch.tensor(held_out_times(4))).square().mean())
    assert held_out_loss(model, latents, [0, 1, 2], FOUR_TIMES, CPU) == pytest.approx(
        expected, rel=1e-4
    )
    model = Oracle("velocity", latents, 4, error=0.1)
    assert held_out_loss(model, latents, [0, 1, 2], FOUR_TIMES, CPU) == pytest.approx(
        0.01, rel=1e-4
    )


def test_the_loss_is_the_same_number_every_time(latents: LatentSet) -> None:
    model = FiT(small())
    losses = [held_out_loss(model, latents, [0, 1, 2], held_out_times(2), CPU) for _ in range(2)]
    assert losses[0] == losses[1]
    squares = [latents.moments(i, False, False)[0].square().mean() for i in range(len(latents))]
    # An untrained model answers 0.
    assert losses[0] == pytest.approx(1 + float(np.mean(squares)), rel=0.15)


def test_times_are_middles_of_equal_parts_of_the_logit_normal() -> None:
    times = torch.tensor(held_out_times(9))
    assert times[4] == pytest.approx(0.5, abs=2e-3)
    torch.testing.assert_close(times, 1 - times.flip(0), atol=4e-3, rtol=0)
    share = (torch.randn(20000).sigmoid()[:, None] < times).float().mean(0)
    torch.testing.assert_close(share, (torch.arange(9) + 0.5) / 9, atol=0.02, rtol=0)

"""Moving averages of the weights."""

import contextlib

import pytest
import torch
from torch import nn

from training.train.ema import EMA


@pytest.fixture
def parameter() -> nn.Parameter:
    return nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))


def test_every_decay_follows_its_own_sum_in_fp32(parameter: nn.Parameter) -> None:
    ema = EMA({"w": parameter}, [0.5, 0.9])
    expected = {0.5: 0.0, 0.9: 0.0}
    for update, value in enumerate([1.0, -2.0, 4.0, 0.5] * 30):
        parameter.data.fill_(value)
        ema.update()
        for decay in expected:
            young = min(decay, (1 + update) / (10 + update))
            expected[decay] = young * expected[decay] + (1 - young) * value
    for decay, value in expected.items():
        average = ema.averages[decay]["w"]
        assert average.dtype == torch.float32
        torch.testing.assert_close(average, torch.full((3,), value), rtol=1e-5, atol=1e-6)


def test_a_young_average_has_forgotten_where_it_started(parameter: nn.Parameter) -> None:
    ema = EMA({"w": parameter}, [0.9999])
    parameter.data.fill_(1.0)
    for _ in range(100):
        ema.update()
    assert ema.averages[0.9999]["w"].min() > 0.999


def test_a_tiny_change_is_not_lost_to_rounding(parameter: nn.Parameter) -> None:
    ema = EMA({"w": parameter}, [0.9999])
    ema.updates = 10**9
    parameter.data.fill_(1.0)
    ema.update()
    torch.testing.assert_close(ema.averages[0.9999]["w"], torch.full((3,), 1e-4), rtol=1e-3, atol=0)


def test_weights_are_the_average_for_a_while_and_bit_for_bit_themselves_after(
    parameter: nn.Parameter,
) -> None:
    ema = EMA({"w": parameter}, [0.5])
    before = parameter.data.normal_().clone()
    ema.update()
    with contextlib.suppress(KeyError), ema.in_place(0.5):
        torch.testing.assert_close(parameter.data, ema.averages[0.5]["w"].bfloat16())
        assert not torch.equal(parameter.data, before)
        raise KeyError
    assert torch.equal(parameter.data, before)

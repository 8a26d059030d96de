"""The path, the times and the loss equal the published code's."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig
from comfyui_fitv2.attention import PackedBatch
from comfyui_fitv2.flow import (
    FLOWS,
    LinearDDPM,
    RectifiedFlow,
    TimeDistribution,
    ddpm_flow_times,
    ddpm_signal,
    interpolate,
    require_rectified_flow,
    sample_timesteps,
    token_errors,
    token_weights,
)

GRIDS = ((4, 6), (10, 5))
LENGTHS = tuple(rows * columns for rows, columns in GRIDS)


def packed(padded: Tensor) -> Tensor:
    """(2, longest, channels), padded, to one row (1, tokens, channels)."""
    return torch.cat([row[:length] for row, length in zip(padded, LENGTHS, strict=True)])[None]


@pytest.mark.parametrize("times", ["lognorm", "uniform"])
def test_the_loss_equals_the_published_code(
    golden: dict[str, Tensor], golden_model: FiT, times: str
) -> None:
    data, noise, t = (
        packed(golden["padded/x"]),
        packed(golden[f"loss/{times}/x0"]),
        golden[f"loss/{times}/t"],
    )
    points = [
        RectifiedFlow().point(d, n, time)
        for d, n, time in zip(data[0].split(LENGTHS), noise[0].split(LENGTHS), t, strict=True)
    ]
    x, target = (torch.cat(parts)[None] for parts in zip(*points, strict=True))
    batch = PackedBatch.of(golden_model, GRIDS, t)
    errors = token_errors(golden_model.transform(x, t, golden["padded/y"], batch), target)
    losses = torch.stack([image.mean() for image in errors[0].split(LENGTHS)])
    torch.testing.assert_close(losses, golden[f"loss/{times}/per_sample"], rtol=1e-5, atol=1e-5)
    weights = torch.cat(
        [token_weights(length, "image", images=2, tokens=sum(LENGTHS)) for length in LENGTHS]
    )
    torch.testing.assert_close((errors * weights).sum(), losses.mean())


def test_a_loss_per_token_weighs_all_tokens_alike() -> None:
    errors = torch.rand(sum(LENGTHS))
    weights = torch.cat(
        [token_weights(length, "token", images=2, tokens=sum(LENGTHS)) for length in LENGTHS]
    )
    torch.testing.assert_close((errors * weights).sum(), errors.mean())


def test_uniform_times_are_uniform_and_logit_normal_ones_gather_in_the_middle() -> None:
    uniform, gathered = (sample_timesteps(20_000, name) for name in ("uniform", "logit-normal"))
    quarters = torch.tensor([0.25, 0.5, 0.75])
    torch.testing.assert_close(uniform.quantile(quarters), quarters, atol=0.02, rtol=0)
    torch.testing.assert_close(
        gathered.logit().quantile(quarters), torch.tensor([-0.6745, 0.0, 0.6745]), atol=0.04, rtol=0
    )
    assert 0 <= min(uniform.min(), gathered.min()) <= max(uniform.max(), gathered.max()) <= 1


def test_a_shift_trains_on_noisier_times_between_the_same_ends() -> None:
    plain, shifted = (
        sample_timesteps(1000, "uniform", shift=shift, generator=torch.Generator().manual_seed(1))
        for shift in (1.0, 3.0)
    )
    torch.testing.assert_close(1 - shifted, 3 * (1 - plain) / (1 + 2 * (1 - plain)))


def test_version_1_is_trained_on_the_noise_of_linear_betas() -> None:
    signal = ddpm_signal()
    torch.testing.assert_close(signal[0].item(), 1 - 1e-4)
    torch.testing.assert_close(
        signal[-1], torch.linspace(1e-4, 0.02, 1000).neg().log1p().sum().exp(), rtol=1e-4, atol=0
    )
    data, noise = torch.randn(2, 6, 4)
    x, target = LinearDDPM().point(data, noise, torch.tensor(500.0))
    assert target is noise
    torch.testing.assert_close(x, signal[500].sqrt() * data + (1 - signal[500]).sqrt() * noise)


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("timestep", [0, 400, 900])
def test_a_perfect_model_of_either_kind_means_the_velocity_of_the_flow(
    name: str, timestep: int
) -> None:
    flow = FLOWS[name]
    data, noise = torch.randn(2, 4, 6, dtype=torch.float64)
    t = ddpm_flow_times()[timestep].item()
    x, time = flow.model_input(interpolate(data, noise, t), t)
    seen, answer = flow.point(data, noise, time)
    torch.testing.assert_close(x, seen, rtol=1e-4, atol=1e-4)
    velocity = flow.velocity(answer, seen, time)
    torch.testing.assert_close(velocity, data - noise, rtol=1e-4, atol=1e-4)


def test_each_flow_has_times_of_its_own() -> None:
    def times_of(name: str) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        times = [FLOWS[name].draw_time(generator, TimeDistribution("uniform")) for _ in range(2000)]
        return torch.stack(times)

    flow, ddpm = times_of("velocity"), times_of("epsilon")
    assert 0 <= flow.min() < 0.01
    assert 0.99 < flow.max() <= 1
    assert torch.equal(ddpm, ddpm.round())
    assert 0 <= ddpm.min() < 10
    assert 989 < ddpm.max() <= 999


def test_time_aware_extrapolation_gets_the_time_from_noise_to_data() -> None:
    assert FLOWS["velocity"].rope_time(torch.tensor([0.25])).item() == 0.25
    assert FLOWS["epsilon"].rope_time(torch.tensor([750.0])).item() == 0.25


def test_a_model_that_predicts_noise_is_refused_where_flows_are_solved(
    golden_config: FiTConfig,
) -> None:
    require_rectified_flow(golden_config)
    with pytest.raises(ValueError, match=r"predicts noise.*KSampler"):
        require_rectified_flow(replace(golden_config, prediction="epsilon"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample_timesteps(1, "normal"), "'normal'.*logit-normal, uniform"),
        (lambda: sample_timesteps(1, shift=0.0), "above 0, not 0.0"),
        (lambda: token_weights(4, "batch", 1, 4), "'batch'.*image, token"),
    ],
)
def test_bad_values_are_explained(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()

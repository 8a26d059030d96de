"""Solvers, guidance and ``sample`` give the published code's numbers."""

import pytest
import torch
from torch import Tensor

from comfyui_fitv2 import FiT, patchify, sample, unpatchify
from comfyui_fitv2.flow import interpolate, velocity_from_denoised
from comfyui_fitv2.guidance import guided_velocity
from comfyui_fitv2.sampling import sampling_times
from comfyui_fitv2.solvers import euler, heun

TOLERANCE = 2e-5
GRID = (4, 6)


@pytest.mark.parametrize(("method", "key", "steps"), [("euler", "euler_9points", 8), ("heun", "heun2_5points", 4)])
def test_sample_equals_the_published_sampler(golden: dict[str, Tensor], golden_model: FiT, method: str, key: str, steps: int) -> None:
    noise = unpatchify(golden["ode/z"], GRID, 2)
    latents = sample(golden_model, noise, golden["ode/y"], method=method, steps=steps, cfg_scale=2.0)
    assert (patchify(latents, 2) - golden[f"ode/{key}"]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("t", [0.0, 0.13, 0.77, 1.0])
@pytest.mark.parametrize("scale", [1.5, 4.0])
def test_guidance_equals_the_published_code(golden: dict[str, Tensor], golden_model: FiT, scale: float, t: float) -> None:
    velocity = guided_velocity(golden_model, golden["cfg/y"], scale)(unpatchify(golden["cfg/x"], GRID, 2), torch.tensor(t))
    assert (patchify(velocity, 2) - golden[f"cfg/out/scale{scale}_pow0.0_t{t}"]).abs().max() <= TOLERANCE


def test_guidance_1_evaluates_the_class_alone(golden: dict[str, Tensor], golden_model: FiT) -> None:
    x, y, t = unpatchify(golden["cfg/x"], GRID, 2), golden["cfg/y"], torch.tensor(0.3)
    assert torch.equal(guided_velocity(golden_model, y, 1.0)(x, t), golden_model(x, t.expand(2), y))


def test_one_step_of_euler_is_the_velocity_itself() -> None:
    x = torch.randn(3)
    assert torch.equal(euler(lambda x, t: 2 * x + t, x, torch.tensor([0.0, 1.0])), x + 2 * x)


@pytest.mark.parametrize(("solver", "order"), [(euler, 1), (heun, 2)])
def test_solvers_converge_with_their_order(solver, order: int) -> None:
    def error(steps: int) -> float:
        solution = solver(lambda x, t: x, torch.ones(1, dtype=torch.float64), torch.linspace(0, 1, steps + 1, dtype=torch.float64))
        return abs(solution.item() - torch.e)

    assert error(20) / error(40) == pytest.approx(2**order, rel=0.1)


def test_heun_can_end_without_evaluating_the_last_time() -> None:
    seen = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t.item())
        return x

    heun(velocity, torch.ones(1), torch.linspace(0, 1, 4), end_with_euler=True)
    assert max(seen) < 1
    assert len(seen) == 5


def test_image_to_image_starts_on_the_path(golden_model: FiT) -> None:
    noise, latents = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12)
    starts = []
    sample(golden_model, noise, torch.tensor([1, 2]), "euler", 3, latents=latents, denoise=0.25, callback=lambda step, x, t, v: starts.append((x, t)))
    assert starts[0][1].item() == pytest.approx(0.75)
    torch.testing.assert_close(starts[0][0], 0.75 * latents + 0.25 * noise)
    assert len(starts) == 3


def test_data_and_velocity_are_two_views_of_one_prediction() -> None:
    data, noise, t = torch.randn(5), torch.randn(5), 0.7
    torch.testing.assert_close(velocity_from_denoised(data, interpolate(data, noise, t), t), data - noise)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "rk5"}, "No solver is called 'rk5'.*euler, heun"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"y": torch.tensor([11, 0])}, r"0 to 10 \(10 = null\)"),
        ({"y": torch.tensor([1])}, "for each of 2 images"),
        ({"denoise": 0.5}, "pass it as latents"),
    ],
)
def test_sample_explains_bad_arguments(golden_model: FiT, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(golden_model, torch.zeros(2, 4, 8, 12), **{"y": torch.tensor([0, 1]), **arguments})


def test_steps_are_counted_not_points() -> None:
    torch.testing.assert_close(sampling_times(4, 0.5), torch.tensor([0.5, 0.625, 0.75, 0.875, 1.0]))

"""Solvers give the published sampler's numbers, and each its own order."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from comfyui_fitv2 import FiT, patchify, sample, unpatchify
from comfyui_fitv2.integrators import dopri5
from comfyui_fitv2.solvers import (
    DIFFUSIONS,
    LAST_STEPS,
    SOLVERS,
    SolverError,
    solver_named,
)
from comfyui_fitv2.stochastic import sde_euler, sde_heun

GRID = (4, 6)


def sampled(golden: dict[str, Tensor], model: FiT, solver: str, steps: int, **settings) -> Tensor:
    noise = unpatchify(golden["ode/z"], GRID, 2)
    return patchify(sample(model, noise, golden["ode/y"], solver, steps, 2.0, **settings), 2)


@pytest.mark.parametrize(
    ("solver", "key", "steps", "tolerance"),
    [
        ("euler", "euler_9points", 8, 2e-5),
        ("heun", "heun2_5points", 4, 2e-5),
        ("midpoint", "midpoint_5points", 4, 2e-5),
        ("rk4", "rk4_5points", 4, 2e-5),
        ("dopri5", "dopri5_5points", 4, 1e-3),
    ],
)
def test_ode_solvers_equal_the_published_sampler(
    golden, golden_model: FiT, solver: str, key: str, steps: int, tolerance: float
) -> None:
    assert (
        sampled(golden, golden_model, solver, steps) - golden[f"ode/{key}"]
    ).abs().max() <= tolerance


SDE_KEYS = [
    *(
        f"{solver}_{form}_Mean_8"
        for solver in ("Euler", "Heun")
        for form in ("constant", "decreasing", "increasing-decreasing", "linear", "sigma")
    ),
    *(f"{solver}_sigma_{last}_8" for solver in ("Euler", "Heun") for last in ("Euler", "Tweedie")),
    "Euler_sigma_None_8",
]


@pytest.mark.parametrize("key", SDE_KEYS)
def test_sde_solvers_equal_the_published_sampler(golden, golden_model: FiT, key: str) -> None:
    solver, form, last, _ = key.lower().split("_")
    torch.manual_seed(1234)

    def noise(x: Tensor) -> Tensor:
        # The published sampler samples noise for the doubled batch.
        return unpatchify(torch.randn(4, 24, 16)[:2], GRID, 2)

    # 8 points are 7 steps, and the last step is beyond them.
    steps, size = (7, 0.0) if last == "none" else (8, 0.04)
    got = sampled(
        golden,
        golden_model,
        f"sde-{solver}",
        steps,
        diffusion=form,
        last_step=last,
        noise_source=noise,
        last_step_size=size,
    )
    assert (got - golden[f"sde/{key}"]).abs().max() <= 1e-4


def test_every_published_sde_number_is_compared(golden) -> None:
    assert {f"sde/{key}" for key in SDE_KEYS} == {key for key in golden if key.startswith("sde/")}


@pytest.mark.parametrize(
    ("name", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2), ("ab2", 2), ("rk4", 4)]
)
@pytest.mark.parametrize("even", [True, False])
def test_fixed_step_solvers_converge_with_their_order(name: str, order: int, even: bool) -> None:
    def solve(name: str, steps: int) -> float:
        times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        times = times if even else times + 0.1 * torch.sin(math.pi * times)
        return solver_named(name)(
            lambda x, t: torch.cos(3 * t) - x**2, torch.ones(1, dtype=torch.float64), times
        ).item()

    exact = solve("rk4", 2000)

    def error(steps: int) -> float:
        return abs(solve(name, steps) - exact)

    assert math.log2(error(40) / error(80)) > order - 0.2


FIXED = [name for name, solver in SOLVERS.items() if not solver.adaptive]


@pytest.mark.parametrize("name", FIXED)
def test_a_solver_evaluates_the_model_as_often_as_it_says(name: str) -> None:
    seen = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return -x

    solver_named(name)(velocity, torch.ones(2, 3), torch.linspace(0, 1, 6))
    # A special last step takes one evaluation.
    special = SOLVERS[name].evaluations - 1 if SOLVERS[name].last_step else 0
    assert len(seen) == 5 * SOLVERS[name].evaluations - special


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_that_add_noise_say_so_and_take_its_source(name: str) -> None:
    sampled = []

    def noise(x: Tensor) -> Tensor:
        sampled.append(x)
        return torch.zeros_like(x)

    solver = SOLVERS[name]
    assert solver.stochastic == ("noise_source" in solver.options)
    options = {"noise_source": noise} if solver.stochastic else {}
    solver_named(name, **options)(lambda x, t: -x, torch.ones(2), torch.linspace(0, 1, 6))
    assert len(sampled) == (4 if solver.stochastic else 0)


def test_a_solver_has_a_sentence_for_people_who_choose() -> None:
    assert all(solver.summary.endswith(".") for solver in SOLVERS.values())


@pytest.mark.parametrize("name", SOLVERS)
def test_the_callback_sees_every_step_in_order(name: str) -> None:
    calls = []
    solver_named(name)(
        lambda x, t: x,
        torch.ones(2, 3),
        torch.linspace(0, 1, 6),
        lambda step, x, t, v: calls.append((step, t.item())),
    )
    assert [step for step, _ in calls] == list(range(len(calls)))
    assert [t for _, t in calls] == sorted({t for _, t in calls})
    assert SOLVERS[name].adaptive or len(calls) == 5


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, 1e-6])
def test_dopri5_keeps_to_its_tolerance_and_spends_as_it_asks(rtol: float) -> None:
    evaluations = 0

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return 10 * x * torch.cos(10 * t)

    x = dopri5(
        velocity,
        torch.ones(1, 1, dtype=torch.float64),
        torch.tensor([0.0, 1.0], dtype=torch.float64),
        rtol=rtol,
        atol=rtol,
    )
    assert abs(x.item() - math.exp(math.sin(10))) < 50 * rtol
    assert evaluations < 40 * rtol**-0.2


def test_dopri5_says_how_far_it_came() -> None:
    with pytest.raises(
        SolverError, match=r"reached t = 0\.\d+ of 1 with 50 evaluations, and max_evaluations is 50"
    ):
        dopri5(
            lambda x, t: 1000 * x * torch.cos(1000 * t),
            torch.ones(1, 1),
            torch.linspace(0, 1, 2),
            max_evaluations=50,
        )


def test_dopri5_stops_at_a_velocity_that_is_not_finite() -> None:
    with pytest.raises(SolverError, match="not finite at t = 0"):
        dopri5(lambda x, t: x / 0, torch.ones(1, 1), torch.linspace(0, 1, 2))


def test_dopri5_starts_from_zeros() -> None:
    """As after DisableNoise and an empty latent in ComfyUI."""
    x = dopri5(lambda x, t: torch.ones_like(x), torch.zeros(1, 4), torch.linspace(0, 1, 2))
    torch.testing.assert_close(x, torch.ones(1, 4))


def test_a_step_without_length_changes_nothing() -> None:
    times = torch.tensor([0.0, 0.5, 0.5, 1.0])
    for name in FIXED:
        got, expected = (
            solver_named(name, **({"diffusion_norm": 0.0} if SOLVERS[name].stochastic else {}))(
                gaussian_velocity, torch.ones(1, 2), each
            )
            for each in (times, times.unique())
        )
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_schedule_without_steps_gives_what_it_got(name: str) -> None:
    x = torch.randn(1, 4)
    assert solver_named(name)(gaussian_velocity, x, torch.tensor([0.5])).equal(x)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_goes_back_to_noise_or_says_that_it_cannot(name: str) -> None:
    """As after FlipSigmas in ComfyUI."""
    x, back = torch.randn(1, 4), torch.linspace(1, 0, 401)
    solver = solver_named(name)
    if SOLVERS[name].adaptive or SOLVERS[name].stochastic:
        with pytest.raises(ValueError, match=r"must rise, not fall from 1 to 0\. .*euler.*ab2"):
            solver(gaussian_velocity, x, back)
    else:
        there = solver(gaussian_velocity, x, back.flip(0))
        torch.testing.assert_close(solver(gaussian_velocity, there, back), x, rtol=0, atol=0.05)


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """That of data ~ N(0, 0.5²): x_t ~ N(0, s²) with s² = 0.25·t² + (1−t)²."""
    return x * (0.25 * t - (1 - t)) / (0.25 * t**2 + (1 - t) ** 2)


@pytest.mark.parametrize("last_step", LAST_STEPS)
@pytest.mark.parametrize("diffusion", DIFFUSIONS)
@pytest.mark.parametrize("sde", [sde_euler, sde_heun])
def test_sde_solvers_sample_from_the_flows_distribution(
    sde, diffusion: str, last_step: str
) -> None:
    times = torch.cat([torch.linspace(0, 0.99, 200), torch.ones(1)])
    sampled = sde(
        gaussian_velocity,
        torch.randn(20000, 1),
        times,
        diffusion=diffusion,
        diffusion_norm=0.5,
        last_step=last_step,
    )
    assert sampled.std().item() == pytest.approx(
        0.5, abs=0.03 if (diffusion, last_step) != ("constant", "none") else 0.06
    )


def test_no_diffusion_is_the_ode() -> None:
    x, times = torch.randn(4, 2), torch.linspace(0, 1, 9)
    by_sde = sde_euler(gaussian_velocity, x, times, diffusion_norm=0.0)
    torch.testing.assert_close(by_sde, solver_named("euler")(gaussian_velocity, x, times))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rk5", {}, "Unknown solver 'rk5'.*euler, heun"),
        ("euler", {"rtol": 1e-3}, "'euler' has no option 'rtol'. Its options: none"),
        ("dopri5", {"tol": 1}, "has no option 'tol'. Its options: rtol, atol, max_evaluations"),
    ],
)
def test_unknown_solvers_and_options_are_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solver_named(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dopri5", {"rtol": 0.0}, "must be above 0, not 0.0"),
        ("sde-euler", {"diffusion": "brown"}, "Unknown diffusion 'brown'.*sbdm"),
        ("sde-heun", {"last_step": "first"}, "Unknown last_step 'first'.*tweedie"),
        ("sde-heun", {"diffusion_norm": -1}, "0 or more, not -1"),
    ],
)
def test_bad_values_are_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solver_named(name, **options)(lambda x, t: x, torch.ones(1), torch.linspace(0, 1, 3))

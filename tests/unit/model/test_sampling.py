"""Guidance, schedules and ``sample`` give the published code's numbers."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from comfyui_fitv2 import (
    Blend,
    Extrapolation,
    FiT,
    FiTConfig,
    Guidance,
    Label,
    class_tensor,
    patchify,
    sample,
    unpatchify,
)
from comfyui_fitv2.guidance import guided_velocity
from comfyui_fitv2.sampling import image_noise, resolution_shift
from comfyui_fitv2.solvers import SOLVERS, sampling_sigmas, schedule

TOLERANCE = 2e-5
GRID = (4, 6)


@pytest.mark.parametrize("t", [0.0, 0.13, 0.77, 1.0])
@pytest.mark.parametrize(("scale", "power"), [(1.5, 0.0), (4.0, 0.0), (4.0, 1.0), (4.0, 2.5)])
def test_guidance_equals_the_published_code(
    golden: dict[str, Tensor], golden_model: FiT, scale: float, power: float, t: float
) -> None:
    velocity = guided_velocity(golden_model, golden["cfg/y"], Guidance(scale, power))(
        unpatchify(golden["cfg/x"], GRID, 2), torch.tensor(t)
    )
    assert (
        patchify(velocity, 2) - golden[f"cfg/out/scale{scale}_pow{power}_t{t}"]
    ).abs().max() <= TOLERANCE


def test_guidance_1_evaluates_the_class_alone(golden: dict[str, Tensor], golden_model: FiT) -> None:
    x, y, t = unpatchify(golden["cfg/x"], GRID, 2), golden["cfg/y"], torch.tensor(0.3)
    assert torch.equal(
        guided_velocity(golden_model, y, Guidance(1.0))(x, t), golden_model(x, t.expand(2), y)
    )


class CountedFiT(FiT):
    """Counts the images it sees."""

    images = 0

    def forward(self, latents: Tensor, *rest, **more) -> Tensor:
        self.images += len(latents)
        return super().forward(latents, *rest, **more)


def test_outside_the_guidance_interval_the_class_alone_is_evaluated(golden_model: FiT) -> None:
    model = CountedFiT(golden_model.config)
    model.load_state_dict(golden_model.state_dict())
    noise, y = torch.randn(1, 4, 8, 12), torch.tensor([3])
    times = [0.0, 0.25, 0.5, 0.75]
    sampled = sample(model, noise, y, "euler", 4, Guidance(3.0, interval=(0.2, 0.5)))
    assert model.images == 4 + 2
    x = noise
    for t in times:
        scale = 3.0 if 0.2 <= t <= 0.5 else 1.0
        x = x + 0.25 * guided_velocity(golden_model, y, Guidance(scale))(x, torch.tensor(t))
    torch.testing.assert_close(sampled, x)


def test_all_channels_can_be_guided(golden_model: FiT) -> None:
    x, y, t = torch.randn(2, 4, 8, 12), torch.tensor([1, 2]), torch.tensor(0.4)
    conditional, unconditional = (
        golden_model(x, t.expand(2), labels) for labels in (y, torch.tensor([10, 10]))
    )
    got = guided_velocity(golden_model, y, Guidance(2.0, channels=None))(x, t)
    torch.testing.assert_close(got, 2 * conditional - unconditional)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"power": -1.0}, "0 or more, not -1"),
        ({"interval": (0.5, 0.5)}, "from 0.5 to 0.5"),
        ({"interval": (0, 2)}, "to 2"),
        ({"scale": math.nan}, "scale must be a finite number, not nan"),
        ({"power": math.nan}, "0 or more, not nan"),
        ({"power": math.inf}, "0 or more, not inf"),
        ({"channels": 0}, "1 or more channels, or None for all, not 0"),
        ({"channels": -1}, "1 or more channels, or None for all, not -1"),
    ],
)
def test_guidance_explains_bad_values(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guidance(**values)


def test_image_to_image_starts_on_the_path(golden_model: FiT) -> None:
    noise, latents = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12)
    starts = []
    sample(
        golden_model,
        noise,
        torch.tensor([1, 2]),
        "euler",
        3,
        latents=latents,
        denoise=0.25,
        callback=lambda step, x, t, v: starts.append((x, t)),
    )
    assert starts[0][1].item() == pytest.approx(0.75)
    torch.testing.assert_close(starts[0][0], 0.75 * latents + 0.25 * noise)
    assert len(starts) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "rk5"}, "Unknown solver 'rk5'.*euler, heun"),
        ({"rtol": 1.0}, "'ab2' has no option 'rtol'"),
        ({"shift": 0.0}, "shift must be a finite number above 0"),
        ({"last_step_size": 1.0}, "below denoise"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"y": torch.tensor([11, 0])}, r"0 to 10 \(10 = null\)"),
        ({"y": torch.tensor([1])}, "for each of 2 images"),
        ({"y": torch.tensor(1)}, "for each of 2 images, not 1"),
        ({"y": torch.tensor([[1], [2]])}, "for each of 2 images"),
        ({"y": torch.zeros(0, dtype=torch.long)}, "for each of 2 images"),
        ({"shift": math.nan}, "shift must be a finite number above 0, not nan"),
        ({"denoise": 0.5}, "pass it as latents"),
        ({"denoise": 0.5, "latents": torch.zeros(3, 4, 8, 12)}, "the shape of the noise"),
        ({"denoise": 0.5, "latents": [torch.zeros(4, 8, 12)] * 2}, "a tensor like the noise"),
    ],
)
def test_sample_explains_bad_arguments(golden_model: FiT, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(golden_model, torch.zeros(2, 4, 8, 12), **{"y": torch.tensor([0, 1]), **arguments})


def test_steps_are_counted_not_points() -> None:
    torch.testing.assert_close(
        sampling_sigmas(4, 0.5), torch.tensor([0.5, 0.375, 0.25, 0.125, 0.0])
    )


@pytest.mark.parametrize(
    ("denoise", "last_step_size"), [(1.0, 0.0), (0.6, 0.0), (1.0, 0.04), (0.5, 0.1)]
)
def test_a_shift_keeps_the_ends(denoise: float, last_step_size: float) -> None:
    plain, shifted = (sampling_sigmas(6, denoise, shift, last_step_size) for shift in (1.0, 2.0))
    ends = [0, -2, -1] if last_step_size else [0, -1]
    torch.testing.assert_close(shifted[ends], plain[ends])
    inner = slice(1, -2 if last_step_size else -1)
    assert (shifted[inner] > plain[inner]).all()
    assert shifted.diff().max() < 0
    assert len(shifted) == 7


def test_a_shift_moves_the_noise_level_as_published() -> None:
    torch.testing.assert_close(
        sampling_sigmas(4, shift=3.0)[2], torch.tensor(3 * 0.5 / (1 + 2 * 0.5))
    )
    assert resolution_shift(1024, 256) == 2.0
    assert resolution_shift(100, 256) == 1.0


def test_a_seed_decides_what_a_stochastic_solver_samples(golden_model: FiT) -> None:
    noise, y = torch.randn(2, 4, 8, 12), torch.tensor([1, 2])
    sampled = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        sampled.append(sample(golden_model, noise, y, "sde-heun", 6, 2.0))
    assert torch.equal(sampled[0], sampled[1])
    assert not torch.equal(sampled[0], sampled[2])


SIZES = [(4, 8, 12), (4, 4, 4), (4, 8, 12), (4, 20, 2)]


def noise_of(solver: str, *images: int) -> dict[str, Any]:
    """Options that give each of these images the noise of its own generator."""
    if not SOLVERS[solver].stochastic:
        return {}
    generators = [torch.Generator().manual_seed(i) for i in images]
    return {"noise_source": image_noise(generators, [SIZES[i] for i in images])}


@pytest.mark.parametrize("solver", [name for name, s in SOLVERS.items() if not s.adaptive])
def test_images_of_any_sizes_are_sampled_together_as_they_would_be_alone(
    golden_model: FiT, solver: str
) -> None:
    noise, y = [torch.randn(size) for size in SIZES], torch.tensor([0, 3, 9, 10])
    how = solver, 3, Guidance(2.0, power=1.0, interval=(0.0, 0.8))
    together = sample(golden_model, noise, y, *how, **noise_of(solver, 0, 1, 2, 3))
    for i, image in enumerate(noise):
        alone = sample(golden_model, image[None], y[i : i + 1], *how, **noise_of(solver, i))
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-4)


def test_every_image_of_a_list_can_have_its_own_extrapolation(golden_model: FiT) -> None:
    noise, y = [torch.randn(4, 40, 8), torch.randn(4, 8, 36)], torch.tensor([1, 2])
    methods = [Extrapolation("yarn"), None]
    together = sample(golden_model, noise, y, "euler", 3, 2.0, methods)
    for i, method in enumerate(methods):
        alone = sample(golden_model, noise[i][None], y[i : i + 1], "euler", 3, 2.0, method)
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-4)
    each: Any = methods
    with pytest.raises(ValueError, match="needs a list of noise"):
        sample(golden_model, torch.zeros(2, 4, 8, 8), y, extrapolation=each)


def test_a_packed_pass_evaluates_the_model_once_per_step(golden_model: FiT) -> None:
    class Counted(FiT):
        calls = 0

        def transform(self, *arguments, **more) -> Tensor:
            self.calls += 1
            return super().transform(*arguments, **more)

    model = Counted(golden_model.config)
    sample(model, [torch.randn(size) for size in SIZES], torch.tensor([0, 1, 2, 3]), "ab2", 5)
    assert model.calls == 5


def test_a_list_starts_from_images_and_is_reported_as_a_list(golden_model: FiT) -> None:
    noise, latents = ([torch.randn(size) for size in SIZES[:2]] for _ in range(2))
    starts = []
    sample(
        golden_model,
        noise,
        torch.tensor([1, 2]),
        "euler",
        3,
        latents=latents,
        denoise=0.25,
        callback=lambda step, x, t, v: starts.append((x, t, v)),
    )
    (x, t, velocity), *_ = starts
    assert t.item() == pytest.approx(0.75)
    for i, image in enumerate(x):
        torch.testing.assert_close(image, 0.75 * latents[i] + 0.25 * noise[i])
        assert velocity[i].shape == image.shape
    assert len(starts) == 3
    with pytest.raises(ValueError, match="the shape of the noise"):
        sample(golden_model, noise, torch.tensor([1, 2]), latents=latents[::-1], denoise=0.5)


def test_no_images_are_sampled_from_no_noise(golden_model: FiT) -> None:
    y = class_tensor([], 10)
    assert y.dtype is torch.int64
    assert sample(golden_model, [], y) == []


def test_an_image_gets_the_same_noise_in_a_batch_and_in_a_pack() -> None:
    batch, packed = (
        image_noise([torch.Generator().manual_seed(i) for i in range(2)], [(4, 2, 3)] * 2)(like)
        for like in (torch.zeros(2, 4, 2, 3, dtype=torch.bfloat16), torch.zeros(48))
    )
    assert batch.dtype == torch.bfloat16
    assert torch.equal(batch.flatten(), packed.bfloat16())
    assert not torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("t", [-1e-7, 0.0, 0.5, 1.0, 1.02])
def test_an_interval_to_an_end_reaches_where_solvers_step_beyond_it(t: float) -> None:
    assert Guidance(2.0).acts_at(t)
    assert Guidance(2.0, interval=(0.0, 0.4)).acts_at(t) == (t <= 0.4)
    assert Guidance(2.0, interval=(0.6, 1.0)).acts_at(t) == (t >= 0.6)
    assert not Guidance(1.0).acts_at(t)


def test_a_schedule_has_the_published_last_step_of_its_solver() -> None:
    for solver in ("sde-euler", "sde-heun"):
        assert schedule(solver, 20)[-2:].tolist() == pytest.approx([0.04, 0.0])
        # Never longer than the others would be.
        assert schedule(solver, 50)[-2].item() == pytest.approx(0.02)
        assert schedule(solver, 20, denoise=0.5)[-2].item() == pytest.approx(0.025)
        torch.testing.assert_close(schedule(solver, 20, last_step="none"), sampling_sigmas(20))
        assert schedule(solver, 20, last_step_size=0.1)[-2].item() == pytest.approx(0.1)
        torch.testing.assert_close(schedule(solver, 1), sampling_sigmas(1))
    torch.testing.assert_close(schedule("ab2", 20, 0.7, 2.0), sampling_sigmas(20, 0.7, 2.0))
    with pytest.raises(ValueError, match="Unknown solver 'rk5'"):
        schedule("rk5", 20)


def test_a_model_that_predicts_noise_is_refused(golden_config: FiTConfig) -> None:
    model = FiT(replace(golden_config, prediction="epsilon"))
    with pytest.raises(ValueError, match=r"predicts noise.*KSampler"):
        sample(model, torch.zeros(1, 4, 8, 12), torch.tensor([1]))


def one_hot(y: Tensor, model: FiT) -> Tensor:
    return torch.nn.functional.one_hot(y, model.config.num_classes + 1).float()


def test_weights_of_one_class_draw_that_class(golden_model: FiT) -> None:
    noise, y = torch.randn(2, 4, 8, 12), torch.tensor([3, 10])  # 10 is the null class
    by_id = sample(golden_model, noise, y, "euler", 3, 2.0)
    by_weight = sample(golden_model, noise, one_hot(y, golden_model), "euler", 3, 2.0)
    torch.testing.assert_close(by_weight, by_id)


def test_a_blend_is_drawn_alone_and_in_a_pack_and_is_neither_class(golden_model: FiT) -> None:
    noise = torch.randn(2, 4, 8, 12)
    labels = [
        Blend.of([(Label(3, None), 7), (Label(5, None), 3)]),
        Label(3, None),
    ]
    y = class_tensor(labels, 10)
    assert y[0, [3, 5]].tolist() == pytest.approx([0.7, 0.3])
    together = sample(golden_model, noise, y, "euler", 3, 2.0)
    packed = sample(golden_model, list(noise), y, "euler", 3, 2.0)
    torch.testing.assert_close(torch.stack(packed), together, atol=1e-4, rtol=0)
    for other in (3, 5):
        single = sample(golden_model, noise[:1], torch.tensor([other]), "euler", 3, 2.0)
        assert (single - together[:1]).abs().max() > 0.01
    # Guidance steers away from the null class, as for a single class.
    x, t = noise, torch.tensor(0.3)
    null = torch.full((2,), golden_model.config.null_class)
    both = golden_model(x, t.expand(2), y), golden_model(x, t.expand(2), null)
    torch.testing.assert_close(
        guided_velocity(golden_model, y, Guidance(2.0))(x, t),
        Guidance(2.0).combine(*both, 0.3),
        atol=1e-5,
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    "y", [torch.ones(1, 10), torch.ones(2, 11), torch.ones(11), torch.full((1, 11), torch.inf)]
)
def test_weights_that_are_not_one_finite_number_per_class_are_refused(
    golden_model: FiT, y: Tensor
) -> None:
    with pytest.raises(ValueError, match=r"finite weights of 11 classes \(the last is null\)"):
        sample(golden_model, torch.randn(1, 4, 8, 12), y, "euler", 2)

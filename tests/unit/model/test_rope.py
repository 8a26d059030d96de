"""Rotary tables and outputs of every extrapolation method are the published code's."""

import math
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from comfyui_fitv2 import Extrapolation, FiT, FiTConfig, patchify, unpatchify
from comfyui_fitv2.extrapolation import ALL_METHODS, ATTENTION_SCALES, riflex, unscaled
from comfyui_fitv2.recommendation import Recommendation
from comfyui_fitv2.rope import RopeKey, Rotation, rope_table

PUBLISHED = {
    "normal": ("none", "none"),
    "linear": ("linear", "none"),
    "ntk-aware": ("ntk", "none"),
    "ntk-aware-pro1": ("ntk", "pro1"),
    "ntk-aware-pro2": ("ntk", "pro2"),
    "ntk-by-parts": ("ntk-by-parts", "none"),
    "yarn": ("yarn", "none"),
}
GRIDS = ["4x6", "10x5", "20x20", "8x24"]
CPU = torch.device("cpu")
PLAIN = Extrapolation(train_length=16)


def table(
    grid: tuple[int, int], head_dim: int, extrapolation: Extrapolation, t: Tensor | None = None
) -> Rotation:
    return rope_table(RopeKey(grid, head_dim, 10000.0, extrapolation, CPU), t)


def extrapolation(published: str, coupling: str) -> Extrapolation:
    method, scale = PUBLISHED[published]
    return Extrapolation(method, coupling == "decoupled", scale, train_length=16)


def parse(grid: str) -> tuple[int, int]:
    height, width = grid.split("x")
    return int(height), int(width)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("coupling", ["coupled", "decoupled"])
@pytest.mark.parametrize("published", PUBLISHED)
def test_tables_equal_the_published_code(
    golden: dict[str, Tensor], published: str, coupling: str, grid: str
) -> None:
    cos, sin = table(parse(grid), 24, extrapolation(published, coupling))
    # The published tables name each angle twice, once for each of an interleaved pair.
    torch.testing.assert_close(
        cos.repeat_interleave(2, 1),
        golden[f"rope/{published}/{coupling}/{grid}/cos"],
        rtol=0,
        atol=5e-7,
    )
    torch.testing.assert_close(
        sin.repeat_interleave(2, 1),
        golden[f"rope/{published}/{coupling}/{grid}/sin"],
        rtol=0,
        atol=5e-7,
    )


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("coupling", ["coupled", "decoupled"])
@pytest.mark.parametrize("published", [p for p in PUBLISHED if p != "normal"])
def test_outputs_equal_the_published_code(
    golden: dict[str, Tensor], golden_model: FiT, published: str, coupling: str, grid: str
) -> None:
    x, t, y = (golden[f"in/{grid}/{key}"] for key in "xty")
    velocity = golden_model(unpatchify(x, parse(grid), 2), t, y, extrapolation(published, coupling))
    torch.testing.assert_close(
        patchify(velocity, 2), golden[f"out/{published}/{coupling}/{grid}"], rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("scale", ["none", "paper"])
@pytest.mark.parametrize("method", ALL_METHODS)
def test_within_the_trained_length_nothing_changes(method: str, scale: str) -> None:
    extrapolation = Extrapolation(method, attention_scale=scale, train_length=16)
    cos, sin = table((16, 9), 64, extrapolation, torch.tensor([0.4]))
    plain = table((16, 9), 64, PLAIN)
    torch.testing.assert_close((cos.view(144, -1), sin.view(144, -1)), plain)
    assert not extrapolation.changes(16, 9)


@pytest.mark.parametrize("method", ALL_METHODS)
def test_beyond_the_trained_length_every_method_says_that_it_acts(method: str) -> None:
    assert Extrapolation(method, train_length=16).changes(16, 17) == (method != "none")
    assert Extrapolation(method, attention_scale="paper", train_length=16).changes(17, 17)


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("scale", ATTENTION_SCALES)
@pytest.mark.parametrize("decoupled", [True, False])
def test_whether_anything_changes_is_what_the_table_shows(
    method: str, scale: str, decoupled: bool
) -> None:
    extrapolation = Extrapolation(method, decoupled, scale, train_length=16)
    for grid in ((4, 4), (8, 8), (9, 5), (16, 16), (12, 14), (17, 3), (20, 20)):
        plain, stretched = (table(grid, 24, e, torch.tensor([0.5])) for e in (PLAIN, extrapolation))
        same = all(
            torch.allclose(a, b.view_as(a), rtol=0, atol=1e-6)
            for a, b in zip(plain, stretched, strict=True)
        )
        assert extrapolation.changes(*grid) == (not same), grid


@pytest.mark.parametrize(
    ("extrapolation", "label"),
    [
        (Extrapolation(), "none"),
        (Extrapolation("ntk"), "ntk"),
        (Extrapolation("yarn", decoupled=False), "yarn coupled"),
        (Extrapolation("ntk", attention_scale="pro2"), "ntk + pro2"),
        (Extrapolation("ntk-by-parts", False, "paper"), "ntk-by-parts coupled + paper"),
        (Extrapolation("none", attention_scale="pro1"), "none + pro1"),
    ],
)
def test_an_extrapolation_has_a_readable_name(extrapolation: Extrapolation, label: str) -> None:
    assert extrapolation.label == label


@pytest.mark.parametrize("method", ALL_METHODS)
@pytest.mark.parametrize("scale", ATTENTION_SCALES)
@pytest.mark.parametrize("decoupled", [True, False])
def test_a_name_is_read_back_as_what_it_names(method: str, scale: str, decoupled: bool) -> None:
    # "none" stretches nothing, so that its name says nothing of how the axes go.
    extrapolation = Extrapolation(method, decoupled or method == "none", scale)
    assert Extrapolation.parse(extrapolation.label) == extrapolation


@pytest.mark.parametrize(
    ("text", "extrapolation"),
    [
        ("  NTK  ", Extrapolation("ntk")),
        ("ntk decoupled", Extrapolation("ntk")),
        ("Yarn   Coupled+PRO2", Extrapolation("yarn", False, "pro2")),
        ("+ paper", Extrapolation("none", attention_scale="paper")),
        ("ntk +", Extrapolation("ntk")),
        ("ＮＴＫ　＋　ｐｒｏ２", Extrapolation("ntk", attention_scale="pro2")),
    ],
)
def test_a_name_is_read_as_people_write_it(text: str, extrapolation: Extrapolation) -> None:
    assert Extrapolation.parse(text) == extrapolation


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ntkk", "method 'ntkk' is unknown.*none, linear, ntk"),
        (
            "ntk sideways",
            "'ntk sideways' is not an extrapolation. Write a method, then \"coupled\"",
        ),
        ("ntk + pro3", "attention_scale 'pro3' is unknown.*none, pro1, pro2, paper"),
        ("ntk + pro1 + pro2", "attention_scale 'pro1 \\+ pro2' is unknown"),
    ],
)
def test_what_is_no_extrapolation_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Extrapolation.parse(text)


def frequencies(method: str, s: float, t: float | None = None) -> Tensor:
    """Of an axis of 32, ``s`` times the trained 16 tokens."""
    return (
        Extrapolation(method, train_length=16)
        .frequencies(int(16 * s), 16, 32, 10000.0, None if t is None else torch.tensor([t]))[0]
        .flatten()
    )


@pytest.mark.parametrize("s", [1.5, 2.0, 4.0])
def test_frequency_aware_is_pi_for_waves_longer_than_the_trained_length(s: float) -> None:
    plain, aware, ntk = (
        frequencies("none", s),
        frequencies("frequency-aware", s),
        frequencies("ntk", s),
    )
    long = 2 * torch.pi / plain >= 16
    torch.testing.assert_close(aware[long], plain[long] / s)
    # As printed: the greater of PI and NTK with the base b·s^(D / 2d) (arXiv 2406.18583).
    target = 16 * math.log(16 / (2 * math.pi)) / math.log(10000.0)
    printed = torch.maximum((10000.0 * s ** (16 / target)) ** -(torch.arange(16) / 16), plain / s)
    torch.testing.assert_close(aware, printed)
    assert (aware <= ntk * 1.00001).all()


@pytest.mark.parametrize("s", [1.5, 2.0, 4.0])
def test_riflex_gives_one_wave_a_turn_over_the_whole_length(s: float) -> None:
    # Of the periods 2π·10000^(i/16) = 6.3, 11.2, 19.9, 35.3, … the third is nearest to 16.
    expected = frequencies("none", s)
    assert 2 * math.pi / expected[2].item() == pytest.approx(19.869, abs=1e-3)
    expected[2] = 2 * math.pi / (16 * s)
    torch.testing.assert_close(frequencies("riflex", s), expected)


@pytest.mark.parametrize("axis_dim", [2, 6, 12, 32, 48])
@pytest.mark.parametrize("train_length", [2, 7, 16, 32, 100])
def test_riflex_lowers_at_most_one_frequency_and_further_the_longer_the_side(
    axis_dim: int, train_length: int
) -> None:
    plain, *longer = (
        riflex(s, axis_dim, 10000.0, train_length) for s in (1.0, 1.05, 1.25, 1.5, 2.0, 3.0)
    )
    assert torch.equal(plain, unscaled(1.0, axis_dim, 10000.0))
    for shorter, this in pairwise([plain, *longer]):
        assert (this <= shorter).all()
        assert (this != plain).sum() <= 1
    assert (2 * math.pi / longer[-1] >= 3 * train_length * 0.9999).sum() >= 1


def test_riflex_changes_nothing_until_the_length_exceeds_its_wave(golden_config: FiTConfig) -> None:
    config = replace(golden_config, hidden_size=256, num_heads=4)
    extrapolation = Extrapolation("riflex").for_model(config)
    assert not extrapolation.changes(19, 16, config)
    assert extrapolation.changes(20, 16, config)
    assert replace(extrapolation, attention_scale="paper").changes(19, 16, config)
    for method in ALL_METHODS:
        stretched = Extrapolation(method).for_model(config)
        assert stretched.changes(20, 16, config) == (method != "none")


@pytest.mark.parametrize("s", [1.5, 2.0, 4.0])
def test_time_aware_goes_from_pi_to_ntk(s: float) -> None:
    plain = frequencies("none", s)
    noise, middle, data = (frequencies("time-aware", s, t) for t in (0.0, 0.5, 1.0))
    torch.testing.assert_close(noise[1:], plain[1:] / s)
    torch.testing.assert_close(data, (10000.0 * s) ** -(torch.arange(16) / 16))
    assert (noise <= middle).all()
    assert (middle <= data).all()


def test_time_aware_needs_time_and_gives_every_image_its_own_table() -> None:
    time_aware = Extrapolation("time-aware", train_length=16)
    with pytest.raises(ValueError, match=r"'time-aware' follows time and needs t"):
        table((32, 8), 64, time_aware)
    t = torch.tensor([0.0, 0.7])
    both, _ = table((32, 8), 64, time_aware, t)
    assert both.shape == (2, 1, 256, 32)
    torch.testing.assert_close(both[1:], table((32, 8), 64, time_aware, t[1:])[0])


def test_the_papers_attention_scale_is_the_ratio_of_log_lengths() -> None:
    magnitude = Extrapolation(attention_scale="paper", train_length=16).magnitude(32, 32)
    assert magnitude**2 == pytest.approx(10 / 8)  # ln 1024 / ln 256


def test_positions_can_be_scaled_and_shifted() -> None:
    whole, _ = table((6, 8), 24, PLAIN)
    part, _ = rope_table(RopeKey((3, 4), 24, 10000.0, PLAIN, CPU, (2.0, 2.0), (1.0, 0.0)))
    torch.testing.assert_close(part.view(3, 4, -1), whole.view(6, 8, -1)[1::2, ::2])


def test_the_trained_length_is_the_models_unless_one_is_given(golden_model: FiT) -> None:
    config = replace(golden_model.config, train_length=8)
    assert Extrapolation("ntk").for_model(config) == Extrapolation("ntk", train_length=8)
    given = Extrapolation("ntk", train_length=4)
    assert given.for_model(config) is given
    with pytest.raises(ValueError, match="has no train_length: take its for_model"):
        Extrapolation("ntk").factors(20, 20)


def test_a_model_stretches_from_the_length_that_it_was_trained_on(golden_config: FiTConfig) -> None:
    model = FiT(replace(golden_config, train_length=8), device="meta")
    own, given, other = (
        model.rotation((12, 12), CPU, Extrapolation("ntk", train_length=length))
        for length in (None, 8, 4)
    )
    assert torch.equal(own[0], given[0])
    assert not torch.equal(own[0], other[0])


def test_a_table_is_made_once_for_all_that_decides_it() -> None:
    first, again = (table((5, 7), 24, Extrapolation("ntk", train_length=4)) for _ in range(2))
    assert first is again
    assert table((7, 5), 24, Extrapolation("ntk", train_length=4)) is not first


def test_unknown_methods_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'ntkk' is unknown.*none, linear, ntk"):
        Extrapolation("ntkk")


RECOMMENDED = (
    Recommendation(1.5, "linear"),
    Recommendation(2, "yarn", "pro2", decoupled=False),
    Recommendation(None, "time-aware"),
)


@pytest.mark.parametrize(
    ("grid", "chosen"),
    [
        ((16, 16), "none"),
        ((4, 24), "linear"),
        ((25, 3), "yarn coupled + pro2"),
        ((32, 32), "yarn coupled + pro2"),
        ((33, 16), "time-aware"),
    ],
)
def test_auto_chooses_what_is_recommended_for_the_longer_side(
    golden_config: FiTConfig, grid: tuple[int, int], chosen: str
) -> None:
    auto = Extrapolation.parse("Auto").for_model(golden_config, RECOMMENDED)
    assert auto.label == "auto"
    assert auto.at(*grid) == replace(Extrapolation.parse(chosen), train_length=16)
    assert auto.changes(*grid) == (chosen != "none")
    assert auto.factors(*grid) == auto.at(*grid).factors(*grid)
    assert auto.magnitude(*grid) == auto.at(*grid).magnitude(*grid)
    t = torch.tensor([0.5])
    model = FiT(golden_config, device="meta")
    model.recommended_extrapolation = RECOMMENDED
    for ours, same in zip(
        model.rotation(grid, CPU, Extrapolation("auto"), t),
        model.rotation(grid, CPU, auto.at(*grid), t),
        strict=True,
    ):
        assert torch.equal(ours, same)


def test_auto_without_a_recommendation_is_the_trained_method_or_ntk(
    golden_config: FiTConfig,
) -> None:
    for trained, chosen in (("none", "ntk"), ("yarn", "yarn")):
        auto = Extrapolation("auto").for_model(replace(golden_config, extrapolation=trained))
        assert auto.at(17, 8).label == chosen
        assert not auto.changes(16, 16)


def test_auto_keeps_what_was_chosen_besides_the_method(golden_config: FiTConfig) -> None:
    auto = Extrapolation.parse("auto coupled + pro1").for_model(golden_config, RECOMMENDED)
    assert auto.label == "auto coupled + pro1"
    assert auto.at(24, 8).label == "linear coupled + pro1"
    assert auto.at(32, 8).label == "yarn coupled + pro1"


def test_auto_beyond_all_that_was_measured_is_the_last_that_was(golden_config: FiTConfig) -> None:
    auto = Extrapolation("auto").for_model(golden_config, RECOMMENDED[:2])
    assert auto.at(64, 64).label == "yarn coupled + pro2"
    with pytest.raises(ValueError, match="take its for_model"):
        Extrapolation("auto").at(32, 32)


def test_no_model_is_trained_with_auto(golden_config: FiTConfig) -> None:
    with pytest.raises(ValueError, match="method of the training, one of none"):
        replace(golden_config, extrapolation="auto")


def test_an_extrapolation_can_be_referred_to_weakly() -> None:
    """torch.compile of PyTorch 2.5 fails on arguments that cannot."""
    extrapolation = Extrapolation()
    assert weakref.ref(extrapolation)() is extrapolation

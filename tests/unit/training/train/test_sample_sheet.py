"""Sample sheets: what is on them, and that they cannot end a run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.micro_batches import random_model
from support.training_runs import small_config

from comfyui_fitv2 import Extrapolation
from training.data import open_latent_set
from training.data.vae import TINY, fingerprint, open_vae
from training.train import train
from training.train.checkpoints.reader import latest, read_summary
from training.train.config import ConfigError, SamplesConfig
from training.train.sample_sheet import SampleSheet, parse_sheet_sizes

NAMES = ("crane", "crane", "lynx")
ALL = np.arange(3)
CPU = torch.device("cpu")


def sheet_of(data: Path, config: SamplesConfig) -> Image.Image:
    sheet = SampleSheet(config, open_latent_set(data).info, NAMES, ALL, CPU)
    torch.manual_seed(1)
    return sheet.render(random_model(), "a title")


def test_a_sheet_is_the_same_from_the_same_weights(data: Path) -> None:
    config = SamplesConfig(steps=2, sizes=("1:1", "2:1", "96x32"), classes=3)
    before = torch.get_rng_state()
    first = sheet_of(data, config)
    torch.set_rng_state(before)
    torch.rand(5)  # nothing on a sheet depends on the global generator
    assert first.tobytes() == sheet_of(data, config).tobytes()
    other = SamplesConfig(steps=2, sizes=("1:1", "2:1", "96x32"), classes=3, seed=1)
    assert first.tobytes() != sheet_of(data, other).tobytes()


@pytest.mark.parametrize(("name", "opened"), [("my-vae.safetensors", True), ("sd-vae", False)])
def test_the_bundled_vae_is_known_by_its_latents(data: Path, name: str, opened: bool) -> None:
    latents = fingerprint(open_vae(TINY)) if opened else (1.0,) * 100
    info = replace(open_latent_set(data).info, vae=name, fingerprint=latents)
    sheet = SampleSheet(SamplesConfig(), info, NAMES, ALL, CPU)
    assert (sheet.vae is not None) == opened


def test_sizes_may_stand_in_one_word_with_commas(data: Path) -> None:
    sheets = [
        sheet_of(data, SamplesConfig(steps=1, classes=1, sizes=sizes))
        for sizes in (("1:1", "2:1"), ("1:1, 2:1",))
    ]
    assert sheets[0].tobytes() == sheets[1].tobytes()


def test_squares_beyond_the_trained_side_are_extrapolated_and_say_so(data: Path) -> None:
    """The side of the set is 96 pixels, 6 tokens."""
    sizes = parse_sheet_sizes(("1:1", "1.5x", "96x32, 2x"), 96)
    assert {name: (size.width, size.height) for name, size in sizes.items()} == {
        "1:1": (96, 96),
        "1.5x": (144, 144),
        "96x32": (96, 32),
        "2x": (192, 192),
    }
    config = SamplesConfig(steps=1, classes=1, sizes=("3:2", "1.5x"), extrapolation="linear")
    sheet = SampleSheet(config, open_latent_set(data).info, NAMES, ALL, CPU)
    inside, beyond = sheet.sizes.values()
    assert sheet.extrapolation(inside) is None
    assert sheet.extrapolation(beyond) == Extrapolation("linear", train_length=6)
    torch.manual_seed(1)
    assert (
        sheet.render(random_model(), "").tobytes()
        != sheet_of(
            data, SamplesConfig(steps=1, classes=1, sizes=("3:2", "1.5x"), extrapolation="none")
        ).tobytes()
    )


def test_an_unknown_extrapolation_is_explained(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"samples.extrapolation: .*'stretch'"):
        sheet_of(data, SamplesConfig(extrapolation="stretch"))


def test_a_size_that_cannot_be_generated_is_explained(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"samples.sizes: .*7:0"):
        SampleSheet(SamplesConfig(sizes=("7:0",)), open_latent_set(data).info, NAMES, ALL, CPU)


def test_a_sheet_that_cannot_be_written_does_not_end_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples").write_text("a file where the folder should be", encoding="utf-8")
    assert train(small_config(data, tmp_path, "--samples.every=6", "--samples.steps=1")) == 0
    assert "no sample sheet of step 6" in capsys.readouterr().out
    assert read_summary(latest(tmp_path)).step == 6


@pytest.mark.parametrize(("class_map", "shown"), [([2, 0, 2], [0, 2]), ([2], [2])])
def test_only_classes_of_the_latent_set_are_on_the_sheet(
    data: Path, class_map: list[int], shown: list[int]
) -> None:
    """A run with adapters has all classes of its checkpoint, and trains on some."""
    info = open_latent_set(data).info
    sheet = SampleSheet(SamplesConfig(), info, NAMES, np.array(class_map), CPU)
    assert sheet.class_ids == shown

"""Resuming a run on a latent set that has changed since its checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.image_files import draw_bar
from support.pooling_vae import PoolingVAE
from support.run_folders import SMALL
from support.training_runs import small_config

from comfyui_fitv2 import FiT, Metadata, save_checkpoint
from training import prepare as module
from training.data import open_latent_set
from training.prepare import PrepareOptions, prepare
from training.train import train
from training.train.checkpoints.reader import latest, read_summary
from training.train.checkpoints.resume import summary_to_resume
from training.train.config import ConfigError
from training.train.initial_model import initial_model
from training.train.packing import Position, epochs_per_round
from training.train.run import TrainingRun

RESUME = ("--steps=9", "--resume=latest")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 8 images."""
    for name, red in (("cat", 200), ("dog", 20)):
        for i in range(8):
            draw_bar(tmp_path / "photos" / name / f"{i}.png", (48, 32 + 16 * (i % 3)), (red, i, 0))
    return tmp_path / "photos"


@pytest.fixture
def prepared(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Prepare the photos as they are."""
    monkeypatch.setattr(module, "open_vae", lambda *_: PoolingVAE())

    def prepared() -> Path:
        options = PrepareOptions(
            images=photos,
            output=tmp_path / "latents",
            image_size=64,
            workers=0,
            device="cpu",
            ignore_problems=True,
        )
        prepare(options)
        return tmp_path / "latents"

    return prepared


def test_a_run_goes_on_with_a_new_epoch_and_says_what_has_changed(
    prepared: Callable[[], Path],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, run = prepared(), tmp_path / "run"
    train(small_config(data, run))
    before = read_summary(latest(run))
    for i in range(3):
        draw_bar(photos / "cat" / f"new{i}.png", (48, 48), (0, 0, 50 * i))
    (photos / "dog" / "0.png").unlink()
    prepared()
    capsys.readouterr()
    resumed = TrainingRun(small_config(data, run, *RESUME))
    start = resumed.state.position
    assert start.pack == 0
    assert start.round > before.position.round
    batch = resumed.config.batch
    begun = (before.position.round + 1) * epochs_per_round(resumed.latents.lengths, batch)
    assert start.round * epochs_per_round(resumed.latents.lengths, batch) >= begun
    resumed.train()
    changed = "the latent set has changed: 3 images added, 1 removed; a new epoch starts with the "
    assert changed in capsys.readouterr().out
    after = read_summary(latest(run))
    assert (after.step, after.data["images"], after.data["changes"]) == (9, 18, 1)
    assert train(small_config(data, run, "--steps=10", "--resume=latest")) == 0
    assert "has changed" not in capsys.readouterr().out


def test_changes_since_the_checkpoint_are_added_up(
    prepared: Callable[[], Path], photos: Path, tmp_path: Path
) -> None:
    data, run = prepared(), tmp_path / "run"
    train(small_config(data, run))
    config = small_config(data, run)
    for i in range(2):
        draw_bar(photos / "cat" / f"new{i}.png", (48, 48), (0, 0, 50 * i))
        (photos / "dog" / f"{i}.png").unlink()
        prepared()
    latents = open_latent_set(data)
    summary, said = summary_to_resume(latest(run), latents, config.batch, 1)
    assert "2 images added, 2 removed" in said
    assert summary.position != Position()


def test_a_new_class_needs_a_new_run_which_is_named(
    prepared: Callable[[], Path], photos: Path, tmp_path: Path
) -> None:
    data, run = prepared(), tmp_path / "run"
    train(small_config(data, run))
    draw_bar(photos / "bird" / "0.png", (48, 48), (0, 0, 50))
    prepared()
    averages = latest(run) / "ema-0.99.safetensors"
    with pytest.raises(ConfigError, match="1 image added, 1 class new") as error:
        train(small_config(data, run, *RESUME))
    assert f"--init {averages} and another --output" in str(error.value)
    config = small_config(data, tmp_path / "next", f"--init={averages}", model=())
    model = initial_model(config, open_latent_set(data).info)
    assert model.class_names == ("cat", "dog", "bird")


@pytest.mark.parametrize("known", [["cat", "bird", "dog"], ["cat", "dog", "cow"]])
def test_adapters_go_on_with_a_new_class_if_their_checkpoint_has_it(
    known: list[str], prepared: Callable[[], Path], photos: Path, tmp_path: Path
) -> None:
    data, run, base = prepared(), tmp_path / "run", tmp_path / "base.safetensors"
    torch.manual_seed(0)
    save_checkpoint(base, FiT(SMALL).state_dict(), Metadata(SMALL, known))
    options = (f"--init={base}", "--lora.rank=2")
    train(small_config(data, run, *options, model=()))
    draw_bar(photos / "bird" / "0.png", (48, 48), (0, 0, 50))
    prepared()
    resumed = small_config(data, run, *options, *RESUME, model=())
    if "bird" in known:
        assert train(resumed) == 0
        assert read_summary(latest(run)).class_map == (0, 2, 1)
    else:
        with pytest.raises(ConfigError, match=r"1 of 3 classes .*'bird'.*learns no new classes"):
            train(resumed)


def test_a_class_that_has_lost_its_images_changes_no_id(
    prepared: Callable[[], Path], photos: Path, tmp_path: Path
) -> None:
    data, run = prepared(), tmp_path / "run"
    train(small_config(data, run))
    for file in (photos / "cat").iterdir():
        file.unlink()
    prepared()
    assert train(small_config(data, run, *RESUME)) == 0
    assert open_latent_set(data).class_ids.tolist() == [1] * 8

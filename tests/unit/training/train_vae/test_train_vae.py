from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_fitv2.autoencoder import load_autoencoder, save_autoencoder
from training.train_vae import (
    PSNR_FILE,
    SHEET_FILE,
    VAE_FILE,
    VAEOptions,
    VAERun,
    main,
    psnr,
    reconstruction_loss,
    reconstructions,
    scale_loss,
)
from training.train_vae.crops import TiledPictures

SMALL = ["--steps=4", "--crop=32", "--batch=4", "--save-every=2"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four pictures of two classes, half a colour each."""
    for i, name in enumerate(("a/1", "a/2", "b/1", "b/2")):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (96, 64 + 16 * i), (40 * i, 200, 90))
        picture.paste((250, 250 - 60 * i, 0), (0, 0, 48, 200))
        picture.save(path)
    return tmp_path / "photos"


def train(images: Path, output: Path, *options: str) -> int:
    return main(["--images", str(images), "--output", str(output), *SMALL, *options])


def test_a_folder_of_pictures_becomes_a_vae_that_loads_with_a_report_of_its_worst(
    images: Path, tmp_path: Path
) -> None:
    assert train(images, tmp_path / "run") == 0
    autoencoder = load_autoencoder(tmp_path / "run" / VAE_FILE)
    assert autoencoder.scale_factor == pytest.approx(0.18215)
    report = json.loads((tmp_path / "run" / PSNR_FILE).read_text())
    pictures = [
        torch.from_numpy(np.asarray(Image.open(images / file)).copy()).permute(2, 0, 1)
        for file in report["pictures"]
    ]
    measured = [
        psnr(after - before / 255)
        for before, after in zip(pictures, reconstructions(autoencoder, pictures), strict=True)
    ]
    assert list(report["pictures"].values()) == pytest.approx(measured)
    assert report["least"] == min(report["pictures"].values())
    assert Image.open(tmp_path / "run" / SHEET_FILE).width > 200


def test_a_run_that_goes_on_takes_the_steps_of_one_that_was_not_ended(
    images: Path, tmp_path: Path
) -> None:
    pictures = [torch.randint(256, (3, 64, 96), dtype=torch.uint8) for _ in range(3)]
    options = VAEOptions(images=images, output=tmp_path / "parts", steps=4, crop=32, batch=4)
    first, whole = VAERun(options, pictures), VAERun(options, pictures)
    for _ in range(4):
        whole.take_step()
    for _ in range(2):
        first.take_step()
    first.save()
    second = VAERun(options, pictures)
    second.restore()
    assert second.step == 2
    for _ in range(2):
        second.take_step()
    for key, value in whole.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[key], value), key


def test_a_decoder_is_trained_on_while_its_encoder_stays(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(images, tmp_path / "first") == 0
    before = load_autoencoder(tmp_path / "first" / VAE_FILE)
    before.vae_scale.fill_(0.5)
    save_autoencoder(tmp_path / "vae.safetensors", before)
    assert train(images, tmp_path / "second", f"--decoder-of={tmp_path / 'vae.safetensors'}") == 0
    after = load_autoencoder(tmp_path / "second" / VAE_FILE)
    assert after.scale_factor == 0.5
    kept = {
        key
        for key, value in before.state_dict().items()
        if torch.equal(after.state_dict()[key], value)
    }
    assert kept == {"vae_scale", "vae_shift"} | {
        key for key in kept if key.startswith("taesd_encoder.")
    }
    assert len(kept) == 2 + len(before.taesd_encoder.state_dict())
    assert train(images, tmp_path / "second") == 1
    assert "decoder_of" in capsys.readouterr().err


def test_steps_lower_the_error() -> None:
    flat = [
        torch.tensor([c, 255 - c, 90], dtype=torch.uint8)
        .view(3, 1, 1)
        .expand(3, 64, 64)
        .contiguous()
        for c in (20, 230)
    ]
    run = VAERun(VAEOptions(images=Path(), output=Path(), steps=150, crop=32, batch=4), flat)
    errors = [run.take_step() for _ in range(150)]
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])


def test_other_settings_are_refused_by_name_and_a_run_may_become_longer_before_its_rate_falls(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [torch.zeros(3, 64, 64, dtype=torch.uint8)]
    run = VAERun(
        VAEOptions(images=images, output=tmp_path / "run", steps=10, crop=32, batch=4), pictures
    )
    run.save()
    VAERun(
        VAEOptions(images=images, output=tmp_path / "run", steps=20, crop=32, batch=4), pictures
    ).restore()
    run.step = 9
    run.save()
    with pytest.raises(ValueError, match="falls already"):
        VAERun(
            VAEOptions(images=images, output=tmp_path / "run", steps=20, crop=32, batch=4), pictures
        ).restore()
    assert train(images, tmp_path / "run", "--steps=10", "--seed=1") == 1
    assert "seed 0, now 1" in capsys.readouterr().err


def test_a_mistake_is_one_line(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(images, tmp_path / "run", "--crop=20") == 1
    assert "--crop must be a multiple of 8" in capsys.readouterr().err
    assert train(tmp_path / "none", tmp_path / "run") == 1
    assert "no such folder" in capsys.readouterr().err


def test_crops_come_mostly_from_where_the_error_is() -> None:
    tiles = TiledPictures([torch.full((3, 64, 64), value, dtype=torch.uint8) for value in (0, 255)])
    tiles.errors[:] = 1e-6
    tiles.errors[len(tiles.errors) // 2 :] = 1.0  # those of the second
    _, crops = tiles.draw(400, 32, np.random.default_rng(0))
    white = (crops.mean((1, 2, 3)) > 0.5).float().mean().item()
    assert 0.8 < white < 0.95  # a quarter is drawn evenly


def test_a_crop_lies_within_its_picture_around_its_tile() -> None:
    ramp = torch.arange(160).expand(3, 128, 160).to(torch.uint8)
    numbers, crops = TiledPictures([ramp]).draw(64, 64, np.random.default_rng(0))
    left = (crops[:, 0, 0, 0] * 255).round()
    assert crops.shape == (64, 3, 64, 64)
    assert ((left >= 0) & (left <= 96)).all()
    assert torch.unique(left).numel() > 10
    assert set(numbers) <= set(range(16))


def test_the_losses_are_what_they_say() -> None:
    difference = torch.zeros(1, 1, 2, 2)
    difference[..., 1] = 0.5
    assert reconstruction_loss(difference).item() == pytest.approx(0.25 + 2 * 0.125 + 0.5 * 0.5)
    normal = torch.randn(4, 4, 64, 64)
    assert scale_loss(normal).item() < 1e-3
    assert scale_loss(2 * normal + 1).item() == pytest.approx(2, abs=0.1)
    assert psnr(torch.full((3, 4, 4), 0.1)) == pytest.approx(20)


def test_matrices_share_the_memory_of_the_convolutions(tmp_path: Path) -> None:
    run = VAERun(
        VAEOptions(images=tmp_path, output=tmp_path), [torch.zeros(3, 128, 128, dtype=torch.uint8)]
    )
    run.matrices[0].data.zero_()
    assert run.hidden[0].abs().max() == 0

"""From a folder of images to a VAE, by the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_fitv2.autoencoder import load_autoencoder, save_autoencoder
from comfyui_fitv2.pixels import psnr
from training.folder_lock import folder_lock
from training.train_vae import PSNR_FILE, SHEET_FILE, VAE_FILE, main
from training.train_vae.run import VAERun, reconstructions

SMALL = ["--steps=4", "--crop=32", "--batch=4", "--save-every=2", "--device=cpu"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four images of two classes, each of two colours."""
    for i, name in enumerate(("a/1", "a/2", "b/1", "b/2")):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (96, 64 + 16 * i), (40 * i, 200, 90))
        image.paste((250, 250 - 60 * i, 0), (0, 0, 48, 200))
        image.save(path)
    return tmp_path / "photos"


def train(images: Path, output: Path, *options: str) -> int:
    return main(["--images", str(images), "--output", str(output), *SMALL, *options])


def test_a_folder_of_images_becomes_a_vae_with_a_report_of_its_worst(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(images, tmp_path / "run") == 0
    autoencoder = load_autoencoder(tmp_path / "run" / VAE_FILE)
    assert autoencoder.scale_factor == pytest.approx(0.18215)
    report = json.loads((tmp_path / "run" / PSNR_FILE).read_text(encoding="utf-8"))
    pixels = [
        torch.from_numpy(np.asarray(Image.open(images / file)).copy()).permute(2, 0, 1)
        for file in report["images"]
    ]
    pairs = zip(reconstructions(autoencoder, pixels), pixels, strict=True)
    measured = [psnr(reconstruction, image / 255) for reconstruction, image in pairs]
    assert list(report["images"].values()) == pytest.approx(measured, abs=1e-3)
    assert report["lowest"] == min(report["images"].values())
    assert Image.open(tmp_path / "run" / SHEET_FILE).width > 200
    capsys.readouterr()
    assert train(images, tmp_path / "run") == 0
    assert "is complete" in capsys.readouterr().out


def test_a_decoder_is_trained_further_while_its_encoder_stays(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(images, tmp_path / "first") == 0
    before = load_autoencoder(tmp_path / "first" / VAE_FILE)
    before.vae_scale.fill_(0.5)
    save_autoencoder(tmp_path / "vae.safetensors", before)
    assert train(images, tmp_path / "second", f"--decoder-of={tmp_path / 'vae.safetensors'}") == 0
    after = load_autoencoder(tmp_path / "second" / VAE_FILE)
    assert after.scale_factor == 0.5
    same = {
        key
        for key, value in before.state_dict().items()
        if torch.equal(after.state_dict()[key], value)
    }
    encoder = {f"taesd_encoder.{key}" for key in before.taesd_encoder.state_dict()}
    assert same == {"vae_scale", "vae_shift"} | encoder
    assert train(images, tmp_path / "second") == 1
    assert "decoder_of" in capsys.readouterr().err


def test_other_settings_are_refused_by_name(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(images, tmp_path / "run") == 0
    assert train(images, tmp_path / "run", "--seed=1") == 1
    assert "seed: 0 → 1" in capsys.readouterr().err
    (images / "b" / "2.png").unlink()
    assert train(images, tmp_path / "run") == 1
    assert "images: 4 → 3" in capsys.readouterr().err


def test_a_run_among_its_images_is_refused(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(images, images / "run") == 1
    assert "would count among them the next time" in capsys.readouterr().err
    assert not (images / "run").exists()


def test_what_is_left_out_is_said(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file,label\na/1.png,a\nb/9.png,b\n", encoding="utf-8")
    assert train(images, tmp_path / "run", f"--metadata={table}") == 0
    assert "b/9.png: no such file" in capsys.readouterr().err
    (tmp_path / "documents" / "a").mkdir(parents=True)
    (tmp_path / "documents" / "a" / "1.heic").write_bytes(b"")
    assert train(tmp_path / "documents", tmp_path / "other") == 1
    assert "The class a has no image that can be used (1 file): " in capsys.readouterr().err


def test_the_image_size_has_its_old_name_too(images: Path, tmp_path: Path) -> None:
    assert train(images, tmp_path / "run", "--image-size=64") == 0
    assert train(images, tmp_path / "run", "--resolution", "64") == 0
    assert train(images, tmp_path / "run", "--resolution", "32") == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--crop=20", "--crop must be a multiple of 8"),
        ("--save-every=0", "--save-every must be 1 or more"),
        ("--seed=-1", "--seed must be 0 or more"),
        ("--image-size=0", "--image-size must be 16 or more"),
        ("--learning-rate=-1", "--learning-rate must be above 0"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    assert train(images, tmp_path / "run", option) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_a_mistake_is_one_line(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path / "none", tmp_path / "run") == 1
    assert "no such folder" in capsys.readouterr().err
    assert train(images, tmp_path / "run", "--device=gpu") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: --device gpu cannot be used: ")


def test_an_image_that_cannot_be_read_is_named(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "a" / "broken.png").write_bytes(b"no pixels" * 99)
    assert train(images, tmp_path / "run") == 1
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert printed.startswith(f"error: {images / 'a' / 'broken.png'}: not an image by its content")


@pytest.mark.cases("P6")
def test_memory_that_runs_out_is_one_line(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(run: VAERun) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.\nMore lines.")

    monkeypatch.setattr(VAERun, "take_step", full)
    assert train(images, tmp_path / "run") == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: the memory of the device ran out. Use a smaller --batch, --crop or --image-size, "
        f"in another --output. What was saved last is in {tmp_path / 'run'}; the same command "
        "resumes."
    )


def test_a_folder_is_trained_by_one_process_that_was_started_alone(
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with folder_lock(tmp_path / "run", "trains here"):
        assert train(images, tmp_path / "run") == 1
    assert "trains here since" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train(images, tmp_path / "run") == 1
    assert "2 processes were started; train_vae runs in one." in capsys.readouterr().err

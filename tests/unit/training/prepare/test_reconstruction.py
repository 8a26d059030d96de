"""``training.prepare.reconstruction``: whether the VAE suits the images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.pooling_vae import PoolingVAE
from torch import Tensor

from comfyui_fitv2.pixels import from_bytes, psnr
from training import prepare as module
from training.data.decode import read_versions
from training.data.vae import open_vae
from training.prepare.reconstruction import Reconstruction


def test_it_is_said_before_encoding_and_stored(
    run: Callable[..., Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads((run("latents") / "report.json").read_text(encoding="utf-8"))
    measured, vae = report["reconstruction"], open_vae("tiny")
    files = sorted(file.relative_to(photos).as_posix() for file in photos.glob("*/*.png"))[::2]
    expected = {}
    for file in files:
        image = from_bytes(read_versions(photos / file, 64)[0][None])
        expected[file] = psnr(vae.decode(vae.moments(image)[:, 0]), image)
    assert measured["images"] == 6
    assert measured["worst"] == min(expected, key=expected.__getitem__)
    assert measured["psnr_worst"] == pytest.approx(min(expected.values()), abs=0.06)
    assert measured["psnr_median"] == pytest.approx(np.median([*expected.values()]), abs=0.06)
    said = capsys.readouterr().out
    assert "VAE: 6 of the images encoded and decoded have a PSNR of" in said
    assert "Stable Diffusion" not in said, "the tiny VAE suits flat colours"


def test_a_vae_that_does_not_suit_the_images_is_named_with_a_better_one(
    run: Callable[..., Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for file in photos.glob("*/*.png"):  # detail everywhere, as in photographs
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(file)
    run("latents")
    said = capsys.readouterr().out
    assert "The tiny VAE is made for flat colours and loses the detail of these images" in said
    assert "hf download stabilityai/sd-vae-ft-ema config.json diffusion_pytorch_model" in said
    assert "Then use it: --vae sd-vae-ft-ema" in said


@pytest.mark.parametrize(("decibels", "hint"), [(19.0, True), (24.0, False)])
def test_other_vaes_get_a_hint_only_where_they_are_very_poor(
    decibels: float, hint: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    Reconstruction((("a.png", decibels),)).say("sd.safetensors")
    assert ("That is low" in capsys.readouterr().out) == hint


def test_large_images_are_measured_in_their_middle(
    run: Callable[..., Path], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    class Watched(PoolingVAE):
        def decode(self, latents: Tensor) -> Tensor:
            seen.append(latents)
            return super().decode(latents)

    monkeypatch.setattr(module, "open_vae", lambda *_: Watched())
    for file in photos.glob("*/*.png"):
        image = np.zeros((400, 608, 3), np.uint8)
        image[72:328, 176:432] = 255
        Image.fromarray(image).save(file)
    run("latents", image_size=512)
    assert {latents.shape[-2:] for latents in seen} == {torch.Size((32, 32))}
    assert all((latents[:, :3] > 0.99).all() for latents in seen)

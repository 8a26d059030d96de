"""The tiny VAE: reconstructions, files and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from comfyui_fitv2.autoencoder import (
    AutoencoderError,
    TinyAutoencoder,
    load_autoencoder,
    save_autoencoder,
)
from comfyui_fitv2.pixels import psnr

GREY_LATENT = (0.94293, 0.67862, -1.25477, -0.99156)


@pytest.fixture
def bundled(bundled_checkpoint: Path) -> Path:
    return bundled_checkpoint.parent.parent / "vae" / "fit_tiny_vae.safetensors"


def flag(height: int, width: int) -> torch.Tensor:
    """A yellow cross on blue, (1, 3, height, width)."""
    image = torch.tensor([0.0, 0.42, 0.65]).view(1, 3, 1, 1).repeat(1, 1, height, width)
    cross = torch.tensor([1.0, 0.8, 0.0]).view(1, 3, 1, 1)
    image[..., int(0.4 * height) : int(0.6 * height), :] = cross
    image[..., int(0.3 * width) : int(0.4 * width)] = cross
    return image


@pytest.mark.parametrize("size", [(192, 304), (256, 256), (160, 400)])
def test_the_bundled_vae_reconstructs_a_flag(bundled: Path, size: tuple[int, int]) -> None:
    autoencoder, image = load_autoencoder(bundled), flag(*size)
    latents = autoencoder.encode(image)
    assert latents.shape == (1, 4, size[0] // 8, size[1] // 8)
    assert psnr(autoencoder.decode(latents), image) > 30


def test_the_bundled_vae_is_known_by_its_scale(bundled: Path) -> None:
    autoencoder = load_autoencoder(bundled)
    assert (autoencoder.channels, autoencoder.scale_factor) == (4, pytest.approx(0.18215))
    # Made with ComfyUI 0.30's VAEEncode: unscaled latents of a plain grey image, at its middle.
    expected = torch.tensor(GREY_LATENT) * autoencoder.scale_factor
    torch.testing.assert_close(
        autoencoder.encode(torch.full((1, 3, 64, 64), 0.5))[0, :, 4, 4], expected, atol=1e-5, rtol=0
    )


def test_scale_and_shift_lead_to_the_latents_that_a_host_multiplies_by_the_scale() -> None:
    """A host holds encoder / scale + shift, and hands a model that times the scale."""
    autoencoder = TinyAutoencoder(channels=3)
    image = torch.rand(1, 3, 16, 24)
    plain = autoencoder.encode(image)
    autoencoder.vae_scale.fill_(0.5)
    autoencoder.vae_shift.fill_(0.25)
    torch.testing.assert_close(autoencoder.encode(image), (plain / 0.5 + 0.25) * 0.5)
    torch.testing.assert_close(
        autoencoder.decode(autoencoder.encode(image)), autoencoder.taesd_decoder(plain).clamp(0, 1)
    )


def test_a_saved_file_has_the_keys_of_the_bundled_one_and_loads_the_same(
    bundled: Path, tmp_path: Path
) -> None:
    autoencoder = load_autoencoder(bundled)
    save_autoencoder(tmp_path / "new" / "vae.safetensors", autoencoder, "a copy")
    saved, original = load_file(tmp_path / "new" / "vae.safetensors"), load_file(bundled)
    assert saved.keys() == original.keys()
    assert all(torch.equal(saved[key], original[key]) for key in original)
    with safe_open(tmp_path / "new" / "vae.safetensors", framework="pt") as file:
        assert file.metadata()["description"] == "a copy"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["vae.safetensors"]


def test_any_number_of_channels_loads(tmp_path: Path) -> None:
    save_autoencoder(tmp_path / "vae.safetensors", TinyAutoencoder(channels=16))
    assert load_autoencoder(tmp_path / "vae.safetensors").channels == 16


@pytest.mark.parametrize("change", ["missing", "unknown", "misshapen"])
def test_a_file_with_wrong_tensors_is_refused_by_name(tmp_path: Path, change: str) -> None:
    tensors = TinyAutoencoder().state_dict()
    if change == "missing":
        del tensors["taesd_decoder.19.bias"]
    elif change == "unknown":
        tensors["taesd_decoder.20.bias"] = torch.zeros(1)
    else:
        tensors["taesd_decoder.1.weight"] = torch.zeros(64, 5, 3, 3)
    save_file(tensors, tmp_path / "vae.safetensors")
    with pytest.raises(
        AutoencoderError,
        match=r"vae\.safetensors: not a complete tiny VAE: 1 tensors .* such as taesd_decoder",
    ):
        load_autoencoder(tmp_path / "vae.safetensors")


def test_other_files_are_refused(bundled_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(AutoencoderError, match=r"not a tiny VAE: its \d+ tensors begin with"):
        load_autoencoder(bundled_checkpoint)
    (tmp_path / "page.safetensors").write_text("<html>", encoding="utf-8")
    with pytest.raises(AutoencoderError, match="not a readable safetensors file"):
        load_autoencoder(tmp_path / "page.safetensors")
    with pytest.raises(FileNotFoundError):
        load_autoencoder(tmp_path / "none.safetensors")

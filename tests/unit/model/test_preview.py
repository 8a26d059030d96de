"""Colours guessed from latents."""

import math

import pytest
import torch

from comfyui_fitv2 import LatentFormat
from comfyui_fitv2.preview import fit_latent_format, preview, preview_features


def test_preview_features_are_products_of_squashed_channels() -> None:
    features = preview_features(torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)).flatten().tolist()
    a, b, c, d = math.tanh(1.0), math.tanh(1.5), math.tanh(3.0), math.tanh(4.5)
    assert features == pytest.approx([a, b, a * b, c, d, c * d])


def test_a_fit_finds_colours_that_signs_decide() -> None:
    latents = 4 * torch.randn(2, 4, 16, 16).sign() + 0.1 * torch.randn(2, 4, 16, 16)
    signs = latents.sign()
    colours = torch.stack(
        [signs[:, 0], signs[:, 1] * signs[:, 2], -signs[:, 0] * signs[:, 1] * signs[:, 3]], dim=1
    )
    latent_format = fit_latent_format(
        latents, colours.repeat_interleave(8, 2).repeat_interleave(8, 3), 0.5
    )
    assert latent_format.latent_rgb_factors is not None
    assert latent_format.latent_rgb_factors_bias is not None
    guess = torch.einsum(
        "bfhw,fc->bchw", preview_features(latents), torch.tensor(latent_format.latent_rgb_factors)
    )
    guess += torch.tensor(latent_format.latent_rgb_factors_bias).view(3, 1, 1)
    torch.testing.assert_close(guess, colours, atol=0.05, rtol=0)


def test_a_fitted_preview_shows_the_colours_of_the_image() -> None:
    latents = 4 * torch.randn(2, 4, 16, 16).sign()
    signs = latents.sign()
    colours = torch.stack([signs[:, 0], signs[:, 1] * signs[:, 2], -signs[:, 3]], dim=1)
    images = colours.repeat_interleave(8, 2).repeat_interleave(8, 3)
    latent_format = fit_latent_format(latents, images, 0.5)
    assert (latent_format.scale_factor, latent_format.preview_kind) == (0.5, "products")
    torch.testing.assert_close(preview(latents, latent_format), (images + 1) / 2, atol=0.01, rtol=0)


def test_linear_factors_are_applied_to_the_channels() -> None:
    latents = torch.tensor([0.5, -0.5]).view(1, 2, 1, 1)
    linear = LatentFormat(1.0, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0.0, 0.0, 0.2])
    assert preview(latents, linear)[0, :, 7, 7].tolist() == pytest.approx([0.75, 0.25, 0.6])


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_without_colours_the_channels_themselves_are_shown(channels: int) -> None:
    image = preview(torch.zeros(1, channels, 2, 3), LatentFormat(1.0))
    assert image.shape == (1, 3, 16, 24)
    assert (image == 0.5).all()

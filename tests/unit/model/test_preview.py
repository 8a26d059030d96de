"""Colours guessed from latents."""

import math

import pytest
import torch

from comfyui_fitv2.preview import fit_latent_format, preview_features


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

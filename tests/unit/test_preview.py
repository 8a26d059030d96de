import torch

from comfyui_fitv2.preview import fit_latent_format, preview_features


def test_preview_features_are_channels_and_products_of_pairs() -> None:
    features = preview_features(torch.tensor([2.0, 3.0, 5.0]).view(1, 3, 1, 1)).flatten().tolist()
    assert features == [2, 3, 5, 4, 6, 10, 9, 15, 25]


def test_a_fit_finds_colours_that_products_explain() -> None:
    latents = torch.randn(2, 4, 8, 8)
    colours = torch.stack([latents[:, 0], latents[:, 1] * latents[:, 2], 0.5 - latents[:, 3] ** 2], dim=1)
    latent_format = fit_latent_format(latents, colours.repeat_interleave(8, 2).repeat_interleave(8, 3), 0.5)
    assert latent_format.latent_rgb_factors is not None
    assert latent_format.latent_rgb_factors_bias is not None
    guess = torch.einsum("bfhw,fc->bchw", preview_features(latents), torch.tensor(latent_format.latent_rgb_factors))
    guess += torch.tensor(latent_format.latent_rgb_factors_bias).view(3, 1, 1)
    torch.testing.assert_close(guess, colours, atol=1e-4, rtol=1e-4)

"""Generated images of models that predict noise."""

import torch

from comfyui_fitv2.flow import ddpm_signal
from training.scaling.distances import ddim


def test_ddim_finds_the_data_that_the_noise_is_about() -> None:
    data = torch.tensor([[1.5, -0.5]])
    signal = ddpm_signal()

    def of_one_image(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        left = signal[int(t)]
        return (x - left.sqrt() * data) / (1 - left).sqrt()

    found = ddim(of_one_image, torch.randn(1, 2, generator=torch.Generator().manual_seed(0)), 8)
    assert torch.allclose(found, data, atol=1e-3)

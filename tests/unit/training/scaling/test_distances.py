"""Images that are generated to be measured and shown."""

from pathlib import Path

import torch
from PIL import Image

from comfyui_fitv2.flow import ddpm_signal
from training.scaling.distances import ddim
from training.scaling.samples import write_row, write_sheet


def test_ddim_finds_the_data_that_the_noise_is_about() -> None:
    data = torch.tensor([[1.5, -0.5]])
    signal = ddpm_signal()

    def of_one_image(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        left = signal[int(t)]
        return (x - left.sqrt() * data) / (1 - left).sqrt()

    found = ddim(of_one_image, torch.randn(1, 2, generator=torch.Generator().manual_seed(0)), 8)
    assert torch.allclose(found, data, atol=1e-3)


def test_a_sheet_has_a_row_for_each_model_that_has_images(tmp_path: Path) -> None:
    for name, colour in (("a", "red"), ("b", "blue")):
        images = [Image.new("RGB", (20, 10), colour)] * 3
        write_row(images, tmp_path / f"{name}.png")
    rows = [(name, tmp_path / f"{name}.png") for name in ("a", "missing", "b")]
    write_sheet(rows, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height == 2 * 10 + 4
        assert sheet.getpixel((sheet.width - 1, 5)) == (255, 0, 0)
        assert sheet.getpixel((sheet.width - 1, 20)) == (0, 0, 255)
    write_sheet(rows[1:2], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()

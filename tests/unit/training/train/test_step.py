"""An optimizer step: the same numbers however the batch is cut."""

from pathlib import Path
from typing import Literal

import pytest
from support.micro_batches import batch_of, gradients, random_model, training_set
from support.training_runs import farthest, small_config, weights

from comfyui_fitv2.flow import token_errors
from training.train import train
from training.train.config import FlowConfig
from training.train.step import training_loss

Loss = Literal["image", "token"]


@pytest.mark.parametrize("loss", ["image", "token"])
def test_packed_and_padded_batches_learn_the_same(data: Path, loss: Loss) -> None:
    flow, model = FlowConfig(loss=loss), random_model()
    packed, padded = (
        gradients(model, batch_of(training_set(data, flow=flow, packing=packing), 0, 1, 2, 3))
        for packing in ("packed", "padded")
    )
    assert packed[0] == pytest.approx(padded[0], rel=1e-6)
    assert farthest(packed[1], padded[1]) < 1e-5


def test_the_image_loss_is_the_mean_over_an_images_tokens_then_over_images(data: Path) -> None:
    model, batch = random_model(), batch_of(training_set(data), 0, 1)
    lengths = [rows * columns for rows, columns in batch.grids]
    parts = token_errors(model(batch), batch.target)[0].split(lengths)
    expected = sum(part.mean().item() for part in parts) / 2
    assert training_loss(model, batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_token_loss_is_the_mean_over_all_tokens(data: Path) -> None:
    model = random_model()
    batch = batch_of(training_set(data, flow=FlowConfig(loss="token")), 0, 1)
    expected = token_errors(model(batch), batch.target).mean().item()
    assert training_loss(model, batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["image", "token"])
def test_accumulating_4_times_4_images_is_a_batch_of_16(
    data: Path, tmp_path: Path, loss: str
) -> None:
    for name, images, accumulation in (("parts", 4, 4), ("whole", 16, 1)):
        cut = [
            "--batch.packing=padded",
            f"--batch.images={images}",
            f"--batch.accumulation={accumulation}",
            f"--flow.loss={loss}",
        ]
        assert train(small_config(data, tmp_path / name, *cut)) == 0
    for file in ("model", "ema-0.99"):
        assert farthest(weights(tmp_path / "parts", file), weights(tmp_path / "whole", file)) < 1e-6

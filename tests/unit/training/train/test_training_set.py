"""Micro-batches: what is random in them, and that it does not depend on company or workers."""

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from support.micro_batches import batch_of, training_set
from support.run_folders import SMALL

from comfyui_fitv2 import patchify
from training.data import open_latent_set
from training.train.config import FlowConfig
from training.train.packing import Position
from training.train.training_set import micro_batches

CPU = torch.device("cpu")


def test_an_example_is_the_same_in_any_company_and_another_in_every_epoch(data: Path) -> None:
    examples = training_set(data)
    alone, together, later = (
        batch_of(examples, 5),
        batch_of(examples, 9, 5),
        batch_of(examples, 5, epoch=1),
    )
    assert torch.equal(alone.tokens[0], together.tokens[0, -len(alone.tokens[0]) :])
    assert torch.equal(alone.t, together.t[1:])
    assert not torch.equal(alone.tokens, later.tokens)
    assert not torch.equal(alone.t, later.t)


@pytest.mark.processes
def test_any_number_of_workers_gives_the_same_batches_in_the_same_order(data: Path) -> None:
    taken = [
        list(islice(micro_batches(training_set(data, workers=workers), Position(), 0, 1, CPU), 7))
        for workers in (0, 2)
    ]
    for here, there in zip(*taken, strict=True):
        assert here.step == there.step
        assert torch.equal(here.tokens, there.tokens)
        assert torch.equal(here.y, there.y)


def test_neighbours_of_one_length_lie_together(data: Path) -> None:
    batch = batch_of(training_set(data), 0, 1, 4, 5)
    assert [rows * columns for rows, columns in batch.grids] == [12, 12, 16, 16]


def test_the_posterior_is_sampled_and_the_target_is_data_minus_noise(data: Path) -> None:
    examples = training_set(data, flip=0.0)
    samples = []
    for epoch in range(200):
        batch = batch_of(examples, 0, epoch=epoch)
        samples.append(batch.tokens[0] + (1 - batch.t[0]) * batch.target[0])
    mean, std = (patchify(x[None], 2)[0] for x in examples.latents.moments(0, False, False))
    standardised = (torch.stack(samples) - mean) / std
    assert abs(standardised.mean()) < 0.02
    assert abs(standardised.std() - 1) < 0.02


def test_labels_are_dropped_and_images_mirrored_at_their_probabilities(data: Path) -> None:
    latents = open_latent_set(data)
    examples = training_set(data, flow=FlowConfig(label_drop=0.3))
    y = torch.stack([batch_of(examples, 20, epoch=epoch).y[0] for epoch in range(300)])
    assert set(y.tolist()) == {int(latents.class_ids[20]), SMALL.null_class}
    assert 0.2 < (y == SMALL.null_class).float().mean() < 0.4
    for flip in (0.0, 1.0):
        batch = batch_of(training_set(data, flip=flip), 0)
        seen = batch.tokens[0] + (1 - batch.t[0]) * batch.target[0]
        mean, std = (patchify(x[None], 2)[0] for x in latents.moments(0, False, flip == 1.0))
        assert ((seen - mean) / std).abs().max() < 6


def test_a_class_of_the_set_can_be_another_of_the_model(data: Path) -> None:
    plain = training_set(data, flow=FlowConfig(label_drop=0.0))
    mapped = dataclasses.replace(plain, class_map=np.array([2, 0, 1]))
    assert batch_of(mapped, 0, 20, 40).y.tolist() == [2, 0, 1]


def test_version_1_learns_the_noise_at_ddpm_timesteps(data: Path) -> None:
    version_1 = dataclasses.replace(SMALL, prediction="epsilon", qk_norm=False, adaln_lora_dim=0)
    batch = batch_of(training_set(data, version_1), *range(12))
    assert ((batch.t == batch.t.round()) & (batch.t >= 0) & (batch.t < 1000)).all()
    assert abs(batch.target.std() - 1) < 0.1

"""A training step, and a run of them: the same numbers however the batch is cut, and every knob does what it says."""

import dataclasses
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.latent_sets import make_latent_set
from support.training_runs import arguments, farthest, small_config, weights
from torch import Tensor

from comfyui_fitv2 import FiTConfig, load_checkpoint, patchify
from comfyui_fitv2.attention import attention
from comfyui_fitv2.flow import token_errors
from training.data.latent_set import LatentSet
from training.train import main, train
from training.train.batches import Images, MicroBatch, micro_batches
from training.train.checkpoints.reader import latest, read_summary
from training.train.config import BatchConfig, ConfigError, FlowConfig, GuardConfig, OptimizerConfig
from training.train.flops import TrainingCost
from training.train.model import TrainedFiT, attention_by_products
from training.train.optimizer import (
    StepGuard,
    TrainingError,
    learning_rate,
    make_optimizer,
    set_learning_rate,
)
from training.train.packing import Pack, Position, StepTotals
from training.train.step import training_loss

FIT = FiTConfig(hidden_size=32, depth=2, num_heads=2, num_classes=3, adaln_lora_dim=8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 images of four sizes and three classes; every second may be cropped."""
    return make_latent_set(
        tmp_path_factory.mktemp("data") / "latents",
        ((4, 4), (2, 6), (6, 2), (3, 4)),
        classes=3,
        per_class=16,
        crop=(4, 4),
    )


def images_of(
    data: Path, fit: FiTConfig = FIT, flow: FlowConfig | None = None, **batch: Any
) -> Images:
    latents = LatentSet.open(data)
    return Images(
        latents,
        fit,
        flow or FlowConfig(),
        BatchConfig(**{"token_budget": 64, "workers": 0, **batch}),
        0,
        np.arange(3),
    )


def batch_of(images: Images, *indices: int, epoch: int = 0) -> MicroBatch:
    """A step of these images, none cropped."""
    sizes = [int(images.lengths[index, 0]) for index in indices]
    totals = StepTotals(len(sizes), sum(sizes), 0, 0, Position())
    return images.micro_batch(
        Pack(Position(), tuple((epoch, index, False) for index in indices), sum(sizes), 0, 0),
        totals,
    )


def random_model(fit: FiTConfig = FIT, **options: Any) -> TrainedFiT:
    """One whose every weight matters, as none does while output and modulation are still 0."""
    model = TrainedFiT(fit, **options)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradients(model: TrainedFiT, *batches: MicroBatch) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    loss = sum((training_loss(model, batch) for batch in batches), torch.zeros(()))
    loss.backward()
    return loss.item(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("loss", ["image", "token"])
def test_packed_and_padded_batches_learn_the_same(data: Path, loss: Any) -> None:
    flow, model = FlowConfig(loss=loss), random_model()
    packed, padded = (
        gradients(model, batch_of(images_of(data, flow=flow, packing=packing), 0, 1, 2, 3))
        for packing in ("packed", "padded")
    )
    assert packed[0] == pytest.approx(padded[0], rel=1e-6)
    assert farthest(packed[1], padded[1]) < 1e-5


def test_the_loss_is_the_mean_over_an_images_tokens_then_over_images_or_over_all_tokens(
    data: Path,
) -> None:
    model = random_model()
    batches = {
        loss: batch_of(images_of(data, flow=FlowConfig(loss=loss)), 0, 1)
        for loss in ("image", "token")
    }  # type: ignore[arg-type]
    lengths = [rows * columns for rows, columns in batches["image"].grids]
    assert lengths == [12, 16]  # neighbours of one length go through the model together
    errors = token_errors(model(batches["image"]), batches["image"].target)[0]
    assert training_loss(model, batches["image"]).item() == pytest.approx(
        sum(part.mean().item() for part in errors.split(lengths)) / 2, rel=1e-5
    )
    assert training_loss(model, batches["token"]).item() == pytest.approx(
        errors.mean().item(), rel=1e-5
    )


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


def test_an_image_is_drawn_the_same_in_any_company_and_anew_every_epoch(data: Path) -> None:
    images = images_of(data)
    alone, together, later = (
        batch_of(images, 5),
        batch_of(images, 9, 5),
        batch_of(images, 5, epoch=1),
    )
    assert torch.equal(alone.tokens[0], together.tokens[0, -len(alone.tokens[0]) :])
    assert torch.equal(alone.t, together.t[1:])
    assert not torch.equal(alone.tokens, later.tokens)
    assert not torch.equal(alone.t, later.t)


def test_any_number_of_workers_gives_the_same_batches_in_the_same_order(data: Path) -> None:
    taken = [
        list(islice(micro_batches(images_of(data, workers=workers), Position(), 0, 1, CPU), 7))
        for workers in (0, 2)
    ]
    for here, there in zip(*taken, strict=True):
        assert here.step == there.step
        assert torch.equal(here.tokens, there.tokens)
        assert torch.equal(here.y, there.y)


def test_the_posterior_is_sampled_and_the_target_is_data_minus_noise(data: Path) -> None:
    images = images_of(data, flip=0.0)
    draws = []
    for epoch in range(200):
        batch = batch_of(images, 0, epoch=epoch)
        draws.append(batch.tokens[0] + (1 - batch.t[0]) * batch.target[0])
    mean, std = (patchify(x[None], 2)[0] for x in images.latents.moments(0, False, False))
    standardised = (torch.stack(draws) - mean) / std
    assert abs(standardised.mean()) < 0.02
    assert abs(standardised.std() - 1) < 0.02


def test_labels_are_dropped_and_images_mirrored_at_their_probabilities(data: Path) -> None:
    latents = LatentSet.open(data)
    images = images_of(data, flow=FlowConfig(label_drop=0.3))
    y = torch.stack([batch_of(images, 20, epoch=epoch).y[0] for epoch in range(300)])
    assert set(y.tolist()) == {int(latents.labels[20]), FIT.null_class}
    assert 0.2 < (y == FIT.null_class).float().mean() < 0.4
    for flip in (0.0, 1.0):
        batch = batch_of(images_of(data, flip=flip), 0)
        seen = batch.tokens[0] + (1 - batch.t[0]) * batch.target[0]
        mean, std = (patchify(x[None], 2)[0] for x in latents.moments(0, False, flip == 1.0))
        assert ((seen - mean) / std).abs().max() < 6


def test_a_class_of_the_set_can_be_another_of_the_model(data: Path) -> None:
    images = dataclasses.replace(
        images_of(data, flow=FlowConfig(label_drop=0.0)), labels=np.array([2, 0, 1])
    )
    assert batch_of(images, 0, 20, 40).y.tolist() == [2, 0, 1]


def test_version_1_learns_the_noise_at_ddpm_timesteps(data: Path, tmp_path: Path) -> None:
    fit = dataclasses.replace(FIT, prediction="epsilon", qk_norm=False, adaln_lora_dim=0)
    batch = batch_of(images_of(data, fit), *range(12))
    assert ((batch.t == batch.t.round()) & (batch.t >= 0) & (batch.t < 1000)).all()
    assert abs(batch.target.std() - 1) < 0.1
    config = small_config(
        data,
        tmp_path,
        "--model.prediction=epsilon",
        "--model.qk_norm=false",
        "--model.adaln_lora_dim=0",
        "--samples.every=3",
    )
    assert train(config) == 0
    assert load_checkpoint(latest(tmp_path) / "model.safetensors").config.prediction == "epsilon"


def test_activation_checkpointing_changes_no_gradient(data: Path) -> None:
    batch = batch_of(images_of(data), 0, 1, 2)
    model = random_model()
    plain = gradients(model, batch)
    model.activation_checkpointing = True
    kept = gradients(model, batch)
    assert plain[0] == kept[0]
    assert farthest(plain[1], kept[1]) == 0.0


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_bf16_computes_in_bf16_over_fp32_weights_and_gradients(data: Path, packing: str) -> None:
    batch, model = (
        batch_of(images_of(data, packing=packing), 0, 1, 2),
        random_model(precision="bf16"),
    )
    assert model(batch).dtype == torch.bfloat16
    loss, computed = gradients(model, batch)
    exact = TrainedFiT(FIT)
    exact.load_state_dict(model.state_dict())
    exact_loss, exact_gradients = gradients(exact, batch)
    assert {gradient.dtype for gradient in computed.values()} == {torch.float32}
    assert loss == pytest.approx(exact_loss, rel=0.02)
    assert farthest(computed, exact_gradients) < 0.1 * max(
        float(g.abs().max()) for g in exact_gradients.values()
    )


def test_the_learning_rate_rises_over_the_warm_up_then_follows_the_schedule() -> None:
    constant, cosine = (
        OptimizerConfig(learning_rate=1e-3, warmup_steps=4, schedule=schedule)
        for schedule in ("constant", "cosine")
    )  # type: ignore[arg-type]
    assert [learning_rate(step, 10, constant) for step in (0, 1, 3, 4, 9)] == pytest.approx(
        [2.5e-4, 5e-4, 1e-3, 1e-3, 1e-3]
    )
    assert [learning_rate(step, 10, cosine) for step in (1, 4, 7, 10)] == pytest.approx(
        [5e-4, 1e-3, 5e-4, 0.0]
    )


def test_learning_rates_and_weight_decay_go_by_the_name_of_a_weight() -> None:
    model = TrainedFiT(FIT)
    config = OptimizerConfig(multipliers={"y_embedder": 10, r"blocks\.0\.": 0.5}, weight_decay=0.1)
    optimizer = make_optimizer(dict(model.named_parameters()), config)
    set_learning_rate(optimizer, 1e-3)
    rates = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    by_name = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert by_name["y_embedder.embedding_table.weight"] == (1e-2, 0.0)
    assert by_name["blocks.0.attn.qkv.weight"] == (5e-4, 0.1)
    assert by_name["blocks.0.attn.qkv.bias"] == (5e-4, 0.0)
    assert by_name["blocks.1.attn.qkv.weight"] == (1e-3, 0.1)
    with pytest.raises(
        ConfigError,
        match=r"'y_embeder' is found in no trained weight's name. Did you mean y_embedder",
    ):
        make_optimizer(
            dict(model.named_parameters()), OptimizerConfig(multipliers={"y_embeder": 10})
        )


def test_muon_has_the_matrices_of_blocks_and_adamw_the_rest() -> None:
    model = TrainedFiT(FIT)
    named = dict(model.named_parameters())
    optimizer = make_optimizer(
        named, OptimizerConfig(kind="muon", multipliers={r"^blocks.*weight": 2})
    )
    set_learning_rate(optimizer, 1e-3)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert {name for name, p in named.items() if groups[id(p)]["muon"]} == {
        name for name in named if name.startswith("blocks.") and name.endswith("weight")
    }
    assert groups[id(named["blocks.0.mlp.fc2.weight"])]["lr"] == 2e-3
    before = {name: p.detach().clone() for name, p in named.items()}
    for p in named.values():
        p.grad = torch.randn_like(p)
    optimizer.step()
    # A step of Muon is an orthogonal matrix: its singular values are alike, and its size is AdamW's, 0.2 in the root mean square.
    change = (named["blocks.0.attn.qkv.weight"] - before["blocks.0.attn.qkv.weight"]) / 2e-3
    values = torch.linalg.svdvals(change.detach())
    assert values.min() > 0.5 * values.max()
    assert change.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.25)
    assert (
        named["blocks.0.attn.qkv.bias"] - before["blocks.0.attn.qkv.bias"]
    ).abs().mean().item() == pytest.approx(1e-3, rel=0.01)
    with pytest.raises(ConfigError, match=r"only one of the two is trained. Set it to adamw"):
        make_optimizer(
            {"y_embedder.embedding_table.weight": named["y_embedder.embedding_table.weight"]},
            OptimizerConfig(kind="muon"),
        )


def test_the_guard_skips_what_is_not_finite_or_extreme_and_gives_up_in_the_end() -> None:
    guard = StepGuard(GuardConfig(gradient_factor=5, window=30, limit=4))
    assert all(guard.accepts(norm) for norm in [9.0] + [1.0] * 24)
    assert [guard.accepts(norm) for norm in (float("nan"), 4.9, 5.1, float("inf"))] == [
        False,
        True,
        False,
        False,
    ]
    assert guard.accepts(1.1)
    with pytest.raises(
        TrainingError,
        match=r"4 of the last 30 steps.*the last: 7; usual: 1.*Lower optimizer.learning_rate",
    ):
        guard.accepts(7.0)


def test_a_skipped_step_changes_nothing_and_too_many_stop_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = [
        "--guard.gradient_factor=1e-4",
        "--guard.window=20",
        "--steps=40",
        "--checkpoints.every=1",
        "--checkpoints.keep=40",
        "--guard.limit=5",
    ]
    assert main(arguments(data, tmp_path, *strict)) == 1
    assert "error: 5 of the last 20 steps had gradients" in capsys.readouterr().err
    newest = latest(tmp_path)
    summary = read_summary(newest)
    assert (summary["step"], summary["skipped"]) == (24, 4)
    before = load_checkpoint(
        newest.with_name("step-00000020") / "model.safetensors"
    ).model.state_dict()
    after = load_checkpoint(newest / "model.safetensors").model.state_dict()
    assert farthest(before, after) == 0.0


def test_the_cost_of_training_is_6_flops_a_weight_and_token_and_attention() -> None:
    model = TrainedFiT(FIT, device="meta")
    d, hidden = 32, FIT.mlp_hidden_size
    per_token = 16 * d + 2 * (4 * d * d + 3 * d * hidden) + d * 16
    per_image = 256 * d + d * d + 6 * d * d + 2 * (d * 8 + 8 * 6 * d) + 2 * d * d
    cost = TrainingCost.of(model, d, 2)
    assert (
        cost.flops(StepTotals(3, 40, 64, 700, Position()))
        == 6 * per_token * 40 + 6 * per_image * 3 + 12 * d * 2 * 700
    )
    model.requires_grad_(False)
    assert TrainingCost.of(model, d, 2).per_token == 4 * per_token


def test_a_run_leaves_checkpoints_that_load_sample_sheets_and_logs(
    data: Path, tmp_path: Path
) -> None:
    drawn = [
        "--samples.every=3",
        "--samples.steps=2",
        "--samples.sizes=1:1, 2:1, 96x32",
        "--samples.classes=2",
    ]
    seen = ["--logging.tracker=tensorboard", "--logging.every=2", "--logging.utilisation=true"]
    assert train(small_config(data, tmp_path, "--checkpoints.every=4", *drawn, *seen)) == 0
    summary = read_summary(latest(tmp_path))
    assert (summary["step"], summary["class_names"], summary["fit"]["num_classes"]) == (
        6,
        ["class0", "class1", "class2"],
        3,
    )
    assert summary["config"]["model"]["hidden_size"] == 32
    assert 0 < summary["loss"] < 10
    for file in ("model", "ema-0.99", "ema-0.9"):
        loaded = load_checkpoint(latest(tmp_path) / f"{file}.safetensors")
        assert (loaded.config, loaded.class_names) == (FIT, ["class0", "class1", "class2"])
    sheets = sorted((tmp_path / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["step-00000003.png", "step-00000006.png"]
    assert Image.open(sheets[0]).size == Image.open(sheets[1]).size
    assert list((tmp_path / "logs").rglob("events.*"))


def test_a_sample_sheet_that_cannot_be_written_does_not_end_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples").write_text("a file where the folder should be", encoding="utf-8")
    assert train(small_config(data, tmp_path, "--samples.every=6", "--samples.steps=1")) == 0
    assert "the sample sheet of step 6 could not be written" in capsys.readouterr().out
    assert read_summary(latest(tmp_path))["step"] == 6


def test_learning_lowers_the_loss(data: Path, tmp_path: Path) -> None:
    losses = []
    for steps in (5, 120):
        train(small_config(data, tmp_path / str(steps), f"--steps={steps}", "--logging.every=5"))
        losses.append(read_summary(latest(tmp_path / str(steps)))["loss"])
    assert losses[1] < 0.8 * losses[0]


def test_too_long_an_image_and_an_unknown_ratio_are_explained_before_anything_is_written(
    data: Path, tmp_path: Path
) -> None:
    for option, message in (
        ("--batch.token_budget=8", "Set it to 16 or more"),
        ("--samples.sizes=7:5", "No aspect ratio"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(small_config(data, tmp_path / "run", option, "--samples.every=1"))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("tokens", [40, 1100])
def test_attention_by_products_is_attention_and_as_exact_as_the_kernel_in_bf16(tokens: int) -> None:
    whole = [torch.randn(2, 3, tokens, 32, requires_grad=True) for _ in range(3)]
    exact = attention(*whole)
    exact.sum().backward()
    gradients = [x.grad for x in whole]

    def errors(function: Any) -> list[float]:
        halves = [x.detach().bfloat16().requires_grad_() for x in whole]
        out = function(*halves)
        out.float().sum().backward()
        pairs = [(exact, out), *zip(gradients, (x.grad for x in halves), strict=True)]
        return [((a - b.float()).norm() / a.norm()).item() for a, b in pairs]

    assert all(
        own < 2 * kernel + 0.01
        for own, kernel in zip(errors(attention_by_products), errors(attention), strict=True)
    )

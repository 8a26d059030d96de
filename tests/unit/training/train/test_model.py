"""The model in training: precisions, padding, activation checkpointing, the attention kernel."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from support.micro_batches import batch_of, gradients, random_model, training_set
from support.run_folders import SMALL
from support.training_runs import farthest
from torch import Tensor

from comfyui_fitv2.attention import attention
from comfyui_fitv2.layers import normalize
from training.train import pack
from training.train.model import TrainedFiT
from training.train.pack import attention_by_products


def test_a_micro_batch_gives_what_the_images_alone_give(data: Path) -> None:
    model, examples = random_model(), training_set(data)
    packed = model(batch_of(examples, 0, 1))
    alone = [model(batch_of(examples, index)) for index in (1, 0)]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1), rtol=1e-5, atol=1e-5)


def test_activation_checkpointing_changes_no_gradient(data: Path) -> None:
    batch = batch_of(training_set(data), 0, 1, 2)
    model = random_model()
    plain = gradients(model, batch)
    model.activation_checkpointing = True
    recomputed = gradients(model, batch)
    assert plain[0] == recomputed[0]
    assert farthest(plain[1], recomputed[1]) == 0.0


@pytest.mark.parametrize("packing", ["packed", "padded"])
def test_bf16_computes_in_bf16_over_fp32_weights_and_gradients(data: Path, packing: str) -> None:
    batch = batch_of(training_set(data, packing=packing), 0, 1, 2)
    model = random_model(precision="bf16")
    assert model(batch).dtype == torch.bfloat16
    loss, computed = gradients(model, batch)
    exact = TrainedFiT(SMALL)
    exact.load_state_dict(model.state_dict())
    exact_loss, exact_gradients = gradients(exact, batch)
    assert {gradient.dtype for gradient in computed.values()} == {torch.float32}
    assert loss == pytest.approx(exact_loss, rel=0.02)
    largest = max(float(gradient.abs().max()) for gradient in exact_gradients.values())
    assert farthest(computed, exact_gradients) < 0.1 * largest


@pytest.mark.parametrize("groups", [[(40, 2)], [(7, 1), (40, 2), (90, 1)]])
def test_attention_by_products_is_attention_and_as_exact_as_the_kernel_in_bf16(
    groups: list[tuple[int, int]],
) -> None:
    tokens = sum(length * count for length, count in groups)
    lengths = [length for length, count in groups for _ in range(count)]
    whole = [torch.randn(1, 3, tokens, 32) for _ in range(3)]
    given = torch.randn(1, 3, tokens, 32)

    def image_by_image(*qkv: Tensor) -> Tensor:
        parts = zip(*(x.split(lengths, dim=2) for x in qkv), strict=True)
        return torch.cat([attention(*part) for part in parts], dim=2)

    def answers(function: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        inputs = [normalize(x).to(dtype).requires_grad_() for x in whole]
        out = function(*inputs)
        out.backward(given.to(dtype))
        return [out, *(cast(Tensor, x.grad) for x in inputs)]

    def errors(function: Callable[..., Tensor]) -> list[float]:
        pairs = zip(exact, answers(function, torch.bfloat16), strict=True)
        return [((a - b.float()).norm() / a.norm()).item() for a, b in pairs]

    exact = answers(image_by_image, torch.float32)
    own = errors(lambda q, k, v: attention_by_products(q, k, v, groups))
    kernel = errors(image_by_image)
    assert all(a < 1.5 * b + 0.001 for a, b in zip(own, kernel, strict=True)), (own, kernel)


def test_long_images_and_other_models_go_through_the_kernel(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Tensor:
        raise AssertionError("attention by products")

    monkeypatch.setattr(pack, "attention_by_products", refused)
    batch = batch_of(training_set(data), 0, 1, 2)
    with pytest.raises(AssertionError, match="by products"):
        random_model(precision="bf16")(batch)
    random_model(precision="fp32")(batch)
    TrainedFiT(replace(SMALL, qk_norm=False), "bf16")(batch)
    monkeypatch.setattr(pack, "_MAX_SCORE_TOKENS", 11)
    random_model(precision="bf16")(batch)

"""The model in training: precisions, padding, activation checkpointing, the attention kernel."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.micro_batches import batch_of, gradients, random_model, training_set
from support.run_folders import SMALL
from support.training_runs import farthest

from comfyui_fitv2.attention import attention
from training.train.model import TrainedFiT, attention_by_products


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


@pytest.mark.parametrize("tokens", [40, 1100])
def test_attention_by_products_is_attention_and_as_exact_as_the_kernel_in_bf16(tokens: int) -> None:
    whole = [torch.randn(2, 3, tokens, 32, requires_grad=True) for _ in range(3)]
    exact = attention(*whole)
    exact.sum().backward()
    exact_gradients = [x.grad for x in whole]

    def errors(function: Any) -> list[float]:
        halves = [x.detach().bfloat16().requires_grad_() for x in whole]
        out = function(*halves)
        out.float().sum().backward()
        pairs = [(exact, out), *zip(exact_gradients, (x.grad for x in halves), strict=True)]
        return [((a - b.float()).norm() / a.norm()).item() for a, b in pairs]

    pairs = zip(errors(attention_by_products), errors(attention), strict=True)
    assert all(own < 2 * kernel + 0.01 for own, kernel in pairs)

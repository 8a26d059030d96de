"""Which attention kernel runs, and what happens on devices that lack what others have."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NoReturn

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from comfyui_fitv2 import FiT, FiTConfig
from comfyui_fitv2 import attention as attention_module
from comfyui_fitv2.rope import rotate

CONFIG = FiTConfig(hidden_size=32, depth=2, num_heads=2, num_classes=3, adaln_lora_dim=4)
SIZES = [(8, 4), (4, 12), (4, 12), (2, 2)]


class Kernel:
    """Stands for PyTorch's variable-length kernel: counts its calls, and fails from one on."""

    def __init__(self, fails_from: int | None = 1, error: type[Exception] = RuntimeError) -> None:
        self.calls = 0
        self.fails_from = fails_from
        self.error = error

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, starts: Tensor, *_: Any, **__: Any
    ) -> Tensor:
        self.calls += 1
        if self.fails_from is not None and self.calls >= self.fails_from:
            raise self.error("FlashAttention forward is not compiled\nin this build")
        images = [slice(*pair) for pair in pairwise(starts.tolist())]
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        attended = [F.scaled_dot_product_attention(q[:, i], k[:, i], v[:, i]) for i in images]
        return torch.cat(attended, dim=1).transpose(0, 1)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    attention_module._varlen_results.clear()
    yield
    attention_module._varlen_results.clear()


@pytest.fixture
def model() -> FiT:
    torch.manual_seed(0)
    model = FiT(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    return model.to(torch.bfloat16)


def packed(model: FiT) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents = [torch.randn(4, *size, generator=generator) for size in SIZES]
    return model.forward_packed(latents, torch.rand(4, generator=generator), torch.arange(4))


def use(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> Kernel:
    monkeypatch.setattr(attention_module, "varlen_attn", kernel)
    monkeypatch.setattr(attention_module, "_varlen_takes", lambda _: True)
    return kernel


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.cases("P1")
@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, ImportError])
def test_a_kernel_that_does_not_run_is_tried_once_and_replaced(
    model: FiT,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: type[Exception],
) -> None:
    expected = packed(model)
    kernel = use(monkeypatch, Kernel(error=error))
    with torch.no_grad():
        assert equal(packed(model), expected)
        assert equal(packed(model), expected)
    assert kernel.calls == 1
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "does not run here (FlashAttention forward is not compiled)" in record.getMessage()


@pytest.mark.cases("P1")
@pytest.mark.skipif(attention_module.varlen_attn is None, reason="torch before 2.10")
def test_the_real_kernel_on_a_device_that_it_does_not_run_on(
    model: FiT, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = packed(model)
    monkeypatch.setattr(attention_module, "_varlen_takes", lambda _: True)
    assert equal(packed(model), expected)


@pytest.mark.cases("P1")
def test_a_kernel_that_fails_after_its_trial_is_replaced_too(
    model: FiT, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = packed(model)
    kernel = use(monkeypatch, Kernel(fails_from=2))
    with torch.no_grad():
        assert equal(packed(model), expected)
        assert equal(packed(model), expected)
    assert kernel.calls == 2


def test_a_kernel_that_runs_is_used_in_every_block(
    model: FiT, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = packed(model)
    kernel = use(monkeypatch, Kernel(fails_from=None))
    with torch.no_grad():
        got = packed(model)
    assert kernel.calls == 1 + CONFIG.depth  # one is the trial
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.05)


@pytest.mark.cases("P1")
def test_memory_that_runs_out_is_not_taken_for_a_missing_kernel(
    model: FiT, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Kernel(error=torch.cuda.OutOfMemoryError))
    with pytest.raises(torch.cuda.OutOfMemoryError), torch.no_grad():
        packed(model)
    assert not attention_module._varlen_results


@pytest.mark.cases("P1")
def test_a_kernel_without_a_backward_pass_is_not_trained_with(
    model: FiT, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ForwardOnly(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *_: Any) -> NoReturn:
            raise RuntimeError("FlashAttention backward is not compiled")

    plain = Kernel(fails_from=None)
    monkeypatch.setattr(
        attention_module, "varlen_attn", lambda *args: ForwardOnly.apply(plain(*args))
    )
    monkeypatch.setattr(attention_module, "_varlen_takes", lambda _: True)
    sum(x.sum() for x in packed(model)).backward()  # pyright: ignore[reportAttributeAccessIssue]
    with torch.no_grad():
        packed(model)
    assert sorted(attention_module._varlen_results.values()) == [False, True]


@pytest.mark.cases("P1")
def test_threads_try_a_kernel_once(model: FiT, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = use(monkeypatch, Kernel())

    def run(_: int) -> list[Tensor]:
        with torch.no_grad():
            return packed(model)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(run, range(8)))
    assert kernel.calls == 1
    assert all(equal(result, results[0]) for result in results)


@pytest.mark.cases("P1")
def test_a_compiled_model_goes_on_without_the_kernel(
    model: FiT, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = packed(model)
    kernel = use(monkeypatch, Kernel())
    forward = torch.compile(model.forward_packed, backend="eager")
    monkeypatch.setattr(model, "forward_packed", forward)
    with torch.no_grad():
        got = packed(model)
    assert kernel.calls == 1
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.05)


@pytest.mark.cases("P2")
@pytest.mark.parametrize("name", ["view_as_complex", "view_as_real", "complex"])
def test_without_complex_numbers_the_result_is_the_same(
    model: FiT, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    x, cos, sin = torch.randn(2, 3, 5, 16), torch.randn(5, 8), torch.randn(5, 8)
    expected, images = rotate(x, (cos, sin)), packed(model)

    def no_complex(*_: Any) -> NoReturn:
        raise RuntimeError("Complex is not supported on this device")

    monkeypatch.setattr(torch, name, no_complex)
    assert torch.equal(rotate(x, (cos, sin)), expected)
    assert equal(packed(model), images)

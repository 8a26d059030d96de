"""The steps, the losses, the device and the saved state of a VAE in training."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.optim import Muon

from training.train_vae import VAEOptions
from training.train_vae.run import (
    SETTINGS_FILE,
    STATE_FILE,
    ConvolutionMuon,
    VAERun,
    adopt_old_state,
    reconstruction_loss,
    scale_loss,
)


def options(output: Path = Path(), **changed: Any) -> VAEOptions:
    small = {"steps": 4, "crop": 32, "batch": 4, "device": "cpu"}
    return VAEOptions(images=Path(), output=output, **small | changed)


def random_images(count: int = 3) -> list[Tensor]:
    return [torch.randint(256, (3, 64, 96), dtype=torch.uint8) for _ in range(count)]


def weights(run: VAERun) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in run.network.state_dict().items()}


def assert_equal(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(after[key], value), key


def test_a_resumed_run_takes_the_steps_of_an_uninterrupted_one(tmp_path: Path) -> None:
    images = random_images()
    whole, first = VAERun(options(), images), VAERun(options(tmp_path), images)
    for _ in range(4):
        whole.take_step()
    for _ in range(2):
        first.take_step()
    first.save()
    second = VAERun(options(tmp_path), images)
    second.restore()
    assert second.step == 2
    for _ in range(2):
        second.take_step()
    assert_equal(weights(whole), weights(second))
    assert (whole.tiles.errors == second.tiles.errors).all()


def test_the_state_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    images = random_images()
    whole, first = VAERun(options(), images), VAERun(options(), images)
    for _ in range(3):
        whole.take_step()
    for _ in range(2):
        first.take_step()
    settings = options().settings(images=3)
    settings["resolution"] = settings.pop("image_size")
    del settings["images"]
    state = {
        "settings": settings,
        "steps": 4,
        "turn": 3,
        "pictures": 3,
        "step": 2,
        "network": first.network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in first.optimizers],
        "errors": torch.from_numpy(first.tiles.errors),
    }
    torch.save(state, tmp_path / "state.pt")
    adopt_old_state(tmp_path)
    stored = json.loads((tmp_path / SETTINGS_FILE).read_text(encoding="utf-8"))
    assert stored == options().settings(images=3)
    second = VAERun(options(tmp_path), images)
    second.restore()
    second.take_step()
    assert_equal(weights(whole), weights(second))


def test_a_run_may_become_longer_until_its_learning_rate_decays(tmp_path: Path) -> None:
    images = [torch.zeros(3, 64, 64, dtype=torch.uint8)]
    run = VAERun(options(tmp_path, steps=10), images)
    run.save()
    VAERun(options(tmp_path, steps=20), images).restore()
    run.step = 9
    run.save()
    with pytest.raises(ValueError, match=r"has begun to decay.*--steps 10"):
        VAERun(options(tmp_path, steps=20), images).restore()
    assert (tmp_path / STATE_FILE).is_file()


@pytest.mark.slow
def test_steps_lower_the_error() -> None:
    colours = [torch.tensor([c, 255 - c, 90], dtype=torch.uint8) for c in (20, 230)]
    flat = [colour.view(3, 1, 1).expand(3, 64, 64).contiguous() for colour in colours]
    run = VAERun(options(steps=100), flat)
    errors = [run.take_step() for _ in range(100)]
    assert sum(errors[-5:]) < 0.5 * sum(errors[:5])


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_muon_trains_convolutions_in_any_memory_order(order: torch.memory_format) -> None:
    weight = nn.Parameter(torch.randn(6, 6, 3, 3).contiguous(memory_format=order))
    matrix = nn.Parameter(weight.detach().permute(0, 2, 3, 1).flatten(1).clone())
    ours = ConvolutionMuon([weight], learning_rate=0.1)
    theirs = Muon([matrix], lr=0.1, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(2):
        weight.grad = torch.randn(6, 6, 3, 3).contiguous(memory_format=order)
        matrix.grad = weight.grad.permute(0, 2, 3, 1).flatten(1)
        ours.step()
        theirs.step()
    torch.testing.assert_close(weight.permute(0, 2, 3, 1).flatten(1), matrix, rtol=0, atol=0)


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A CUDA device that computes nothing and refuses operations that mix devices.

    The list gets the device type of every autocast. Replaced is what fake tensors cannot do:
    change a module's device, run backward without a driver, and become arrays.
    """
    autocast: list[str] = []

    def move(old: Any, new: Any) -> None:
        old.fake_device = new.fake_device

    def backward(loss: Tensor) -> None:
        assert loss.device.type == "cuda"
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    def to_array(tensor: Tensor) -> np.ndarray:
        assert tensor.device.type == "cpu"
        return np.zeros(tensor.shape)

    parameters: list[Tensor] = []
    register = nn.Module.register_parameter
    monkeypatch.setattr(
        nn.Module,
        "register_parameter",
        lambda self, name, p: (
            (parameters.append(p) if p is not None else None) or register(self, name, p)
        ),
    )
    monkeypatch.setattr(torch.utils, "swap_tensors", move)
    monkeypatch.setattr(Tensor, "backward", backward)
    monkeypatch.setattr(FakeTensor, "numpy", to_array, raising=False)
    monkeypatch.setattr(FakeTensor, "item", lambda _: 0.0, raising=False)
    monkeypatch.setattr(
        torch, "autocast", lambda device, *_, **__: autocast.append(device) or nullcontext()
    )
    return autocast


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_step_on_an_accelerator_mixes_no_devices(fake_cuda: list[str], precision: str) -> None:
    images = random_images()
    with FakeTensorMode(allow_non_fake_inputs=True):
        run = VAERun(options(device="cuda", precision=precision), images)
        assert run.take_step() == 0.0
        states = [state for optimizer in run.optimizers for state in optimizer.state.values()]
        values = [value for state in states for key, value in state.items() if key != "step"]
        assert values
        assert {value.device.type for value in values} == {"cuda"}
        assert {p.device.type for p in run.network.parameters()} == {"cuda"}
    assert fake_cuda == ["cuda"]


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
def test_an_accelerator_takes_the_steps_of_the_cpu() -> None:
    images = random_images()
    runs = [VAERun(options(precision="fp32", device=d), images) for d in ("cpu", None)]
    assert runs[1].device.type != "cpu"
    first, second = ([run.take_step() for _ in range(4)] for run in runs)
    assert second == pytest.approx(first, rel=1e-2)


def test_the_losses_are_what_they_say() -> None:
    difference = torch.zeros(1, 1, 2, 2)
    difference[..., 1] = 0.5
    assert reconstruction_loss(difference).item() == pytest.approx(0.25 + 2 * 0.125 + 0.5 * 0.5)
    normal = torch.randn(4, 4, 64, 64)
    assert scale_loss(normal).item() < 1e-3
    assert scale_loss(2 * normal + 1).item() == pytest.approx(2, abs=0.1)

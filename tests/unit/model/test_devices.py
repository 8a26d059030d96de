"""The model on devices that this machine lacks: nothing is mixed, nothing waits, and MPS can do it.

See ``support.pretended_device`` for what is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from support.pretended_device import DeviceError, DeviceTensor, PretendedDevice
from torch import Tensor

from comfyui_fitv2 import (
    SOLVERS,
    Extrapolation,
    FiT,
    FiTConfig,
    Guidance,
    LatentFormat,
    SolverError,
    sample,
)
from comfyui_fitv2 import attention as attention_module
from comfyui_fitv2 import rope as rope_module
from comfyui_fitv2.autoencoder import TinyAutoencoder
from comfyui_fitv2.config import PRECISIONS
from comfyui_fitv2.extrapolation import ALL_METHODS, ATTENTION_SCALES, TIME_AWARE
from comfyui_fitv2.pixels import to_bytes
from comfyui_fitv2.preview import preview
from comfyui_fitv2.sampling import image_noise

CONFIG = FiTConfig(
    hidden_size=32, depth=1, num_heads=2, num_classes=3, adaln_lora_dim=4, train_length=4
)
VERSION_1 = FiTConfig(
    64, 1, 2, 3, adaln_lora_dim=0, mlp_ratio=6.0, qk_norm=False, prediction="epsilon"
)
SIZES = [(8, 12), (16, 4), (16, 4), (2, 2)]
GUIDANCES = {
    "off": Guidance(1.0),
    "three channels": Guidance(2.0),
    "all channels": Guidance(2.0, channels=None),
    "power-cosine": Guidance(2.0, power=2.0),
    "interval": Guidance(2.0, interval=(0.3, 0.8)),
}
EXTRAPOLATIONS = [
    *(Extrapolation(method) for method in ALL_METHODS),
    *(Extrapolation(method, decoupled=False) for method in ("ntk", *TIME_AWARE)),
    *(Extrapolation("yarn", attention_scale=scale) for scale in ATTENTION_SCALES),
]
WAITS = {
    # An adaptive solver decides on the CPU whether a step is accepted, and how long the next is.
    "integrators.py:norm",
}
"""Where sampling may wait for the device, as "file.py:function"."""


@pytest.fixture(params=["cuda", "mps"])
def device(request: pytest.FixtureRequest) -> Iterator[PretendedDevice]:
    for forget in (rope_module._cached_table.cache_clear, attention_module._varlen_results.clear):
        forget()
    with PretendedDevice(request.param) as pretended:
        yield pretended
    for forget in (rope_module._cached_table.cache_clear, attention_module._varlen_results.clear):
        forget()


@pytest.fixture
def model(device: PretendedDevice) -> FiT:
    return FiT(CONFIG).to(device.device)


def images(device: PretendedDevice, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(4, *size, device=device.device, dtype=dtype) for size in SIZES]


def is_there(x: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> bool:
    return isinstance(x, DeviceTensor) and x.shape == shape and x.dtype == dtype


def test_the_pretended_device_finds_what_is_wrong(device: PretendedDevice) -> None:
    x = torch.ones(3, device=device.device)
    with pytest.raises(DeviceError, match="one of shape"):
        _ = x + torch.ones(3)
    x.sum().item()
    x.cpu()
    assert device.waits.total() == 2
    pinned = device.device.type == "cuda"
    with nullcontext() if pinned else pytest.raises(DeviceError, match="may be freed"):
        torch.ones(3).to(device.device, non_blocking=True)
    for wait in (
        x.nonzero,
        lambda: torch.equal(x, x),
        lambda: torch.arange(3, device=device.device).repeat_interleave(x.long()),
    ):
        with pytest.raises(DeviceError, match="waits for the device"):
            wait()
    assert torch.ones(3).sum().item() == 3  # the CPU is real
    for make in (lambda: x.double(), lambda: torch.complex(x, x)):
        if device.device.type == "mps":
            with pytest.raises(DeviceError, match="which MPS does not have"):
                make()
        else:
            make()


@pytest.mark.parametrize("dtype", PRECISIONS.values(), ids=PRECISIONS)
@pytest.mark.parametrize("config", [CONFIG, VERSION_1], ids=["version 2", "version 1"])
def test_forward_and_packed_forward(
    device: PretendedDevice, config: FiTConfig, dtype: torch.dtype
) -> None:
    model = FiT(config, dtype=dtype).to(device.device)
    t, y = torch.rand(4, device=device.device), torch.arange(4, device=device.device)
    x = torch.randn(4, 4, 8, 12, device=device.device)
    assert is_there(model(x, t, y), (4, 4, 8, 12))
    packed = model.forward_packed(images(device), t, y)
    assert all(is_there(v, (4, *size)) for v, size in zip(packed, SIZES, strict=True))
    assert not device.waits


@pytest.mark.parametrize("extrapolation", EXTRAPOLATIONS, ids=lambda e: e.label)
def test_every_extrapolation(
    device: PretendedDevice, model: FiT, extrapolation: Extrapolation
) -> None:
    t, y = torch.rand(4, device=device.device), torch.arange(4, device=device.device)
    x = torch.randn(4, 4, 12, 16, device=device.device)
    assert is_there(model(x, t, y, extrapolation), (4, 4, 12, 16))
    model.forward_packed(images(device), t, y, [extrapolation, None, extrapolation, None])
    assert not device.waits


# What MPS takes in its way through sampling, CUDA takes too.
on_mps = pytest.mark.parametrize("device", ["mps"], indirect=True)


@on_mps
@pytest.mark.parametrize(
    ("solver", "guidance"),
    [(solver, "interval") for solver in SOLVERS] + [("ab2", guidance) for guidance in GUIDANCES],
)
@pytest.mark.parametrize("packed", [False, True])
def test_every_solver_and_every_guidance(
    device: PretendedDevice, model: FiT, solver: str, guidance: str, packed: bool
) -> None:
    y = torch.arange(4).to("cpu" if packed else device.device)
    noise = images(device) if packed else torch.randn(4, 4, 8, 12, device=device.device)
    seen = []
    result = sample(
        model, noise, y, solver, 3, GUIDANCES[guidance], callback=lambda i, *_: seen.append(i)
    )
    assert all(is_there(x, z.shape) for x, z in zip(result, noise, strict=True))
    assert seen
    assert set(device.waits) <= (WAITS if SOLVERS[solver].adaptive else set())


@pytest.mark.parametrize("device", ["cuda"], indirect=True)
@pytest.mark.parametrize("solver", [name for name in SOLVERS if not SOLVERS[name].adaptive])
@pytest.mark.parametrize("packed", [False, True])
def test_no_step_waits_until_cuda_has_taken_a_number_or_a_table(
    device: PretendedDevice, model: FiT, solver: str, packed: bool
) -> None:
    noise = images(device) if packed else torch.randn(4, 4, 8, 12, device=device.device)
    sample(model, noise, torch.arange(4), solver, 3, 2.0, Extrapolation("time-aware"))
    assert not device.waits


@on_mps
@pytest.mark.parametrize("solver", SOLVERS)
def test_image_to_image(device: PretendedDevice, model: FiT, solver: str) -> None:
    noise, latents = torch.randn(2, 2, 4, 8, 12, device=device.device)
    sample(model, noise, torch.tensor([1, 2]), solver, 4, latents=latents, denoise=0.5)
    assert set(device.waits) <= WAITS


def test_noise_of_one_generator_per_image(device: PretendedDevice, model: FiT) -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    x = images(device)
    source = image_noise(generators, [image.shape for image in x])
    sample(model, x, torch.arange(4), "sde-euler", 3, noise_source=source)
    assert not device.waits


def test_class_ids_on_the_cpu_are_checked_before_they_move(
    device: PretendedDevice, model: FiT
) -> None:
    noise = torch.randn(1, 4, 8, 8, device=device.device)
    with pytest.raises(ValueError, match="one class id of 0 to 3"):
        sample(model, noise, torch.tensor([4]), "euler", 1)
    assert not device.waits


@pytest.mark.parametrize("dtype", PRECISIONS.values(), ids=PRECISIONS)
def test_the_tiny_vae(device: PretendedDevice, dtype: torch.dtype) -> None:
    vae = TinyAutoencoder().to(device.device, dtype)
    latents = torch.randn(2, 4, 4, 6, device=device.device, dtype=dtype)
    decoded = vae.decode(latents)
    assert is_there(decoded, (2, 3, 32, 48), dtype)
    assert is_there(vae.encode(decoded), (2, 4, 4, 6), dtype)
    assert not device.waits
    assert to_bytes(decoded).shape == (2, 32, 48, 3)  # an image has to come to the CPU
    assert set(device.waits) == {"pixels.py:to_bytes"}


@pytest.mark.parametrize(
    "latent_format",
    [
        LatentFormat(1.0),
        LatentFormat(1.0, [[0.1, 0.2, 0.3]] * 4, [0.0, 0.0, 0.1]),
        LatentFormat(1.0, [[0.1, 0.2, 0.3]] * 30, None, "products"),
    ],
    ids=["none", "linear", "products"],
)
def test_previews(device: PretendedDevice, latent_format: LatentFormat) -> None:
    latents = torch.randn(2, 4, 4, 6, device=device.device)
    assert is_there(preview(latents, latent_format), (2, 3, 32, 48))
    assert not device.waits


def test_a_model_in_training_gets_its_gradients(device: PretendedDevice, model: FiT) -> None:
    t, y = torch.rand(4, device=device.device), torch.arange(4, device=device.device)
    x = torch.randn(4, 4, 8, 12, device=device.device)
    loss = model(x, t, y).square().mean()
    loss = loss + sum(v.square().mean() for v in model.forward_packed(images(device), t, y))
    loss.backward()
    assert all(isinstance(p.grad, DeviceTensor) for p in model.parameters())
    assert not device.waits


def test_a_velocity_that_is_not_finite_still_stops_an_adaptive_solver() -> None:
    model = FiT(CONFIG)
    torch.nn.init.constant_(model.final_layer.linear.bias, torch.inf)
    with pytest.raises(SolverError, match="not finite"):
        sample(model, torch.randn(1, 4, 8, 8), torch.tensor([1]), "dopri5")

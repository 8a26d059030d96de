"""A tiny VAE in training: its steps, its losses, and its state on disk.

The loss is L1 + 2·L2 + ½·L1 of the differences between neighbours, plus a penalty that keeps each
channel of the latents at mean 0 and standard deviation 1, the scale in which a FiT is trained. A
little noise on the latents makes the decoder smooth around them, because the latents of a FiT are
never exact.

Images, crops and random numbers are on the CPU, so every device gets the same ones. The network,
the losses and the optimizers are on the run's device. On the CPU a resumed run equals an
uninterrupted one bit for bit; accelerators may sum in another order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from comfyui_fitv2.autoencoder import TinyAutoencoder, load_autoencoder

from ..data.vae import channels_last
from ..processes import find_device
from ..whole_files import write_json, write_whole
from .config import GROWTH, VAEOptions, decay_start
from .crops import TiledImages

SETTINGS_FILE, STATE_FILE = "settings.json", "state.safetensors"
_OLD_STATE_FILE = "state.pt"
_RUN_KEY = "run"
_ADAMW_RATE = 1e-3


class VAERun:
    """A ``TinyAutoencoder`` in training on images (3, H, W) uint8.

    Raises ``ValueError`` for a device that cannot be used.
    """

    def __init__(self, options: VAEOptions, images: Sequence[Tensor]) -> None:
        self.options = options
        self.device = find_device(options.device)
        self.tiles = TiledImages([_mirrored(image, options.crop * GROWTH) for image in images])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            decoder_of = options.decoder_of
            network = load_autoencoder(decoder_of) if decoder_of else TinyAutoencoder()
        self.network = channels_last(network.to(self.device))
        trained = network.taesd_decoder if decoder_of else network
        trained.train().requires_grad_()
        hidden = [
            module.weight
            for module in trained.modules()
            if isinstance(module, nn.Conv2d) and module.in_channels == module.out_channels
        ]
        others = [p for p in trained.parameters() if all(p is not weight for weight in hidden)]
        rate = min(options.learning_rate, _ADAMW_RATE)
        self.optimizers: list[Optimizer] = [
            ConvolutionMuon(hidden, options.learning_rate),
            AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True),
        ]
        self.rates = [
            group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups
        ]
        self.step = 0

    def take_step(self) -> float:
        """Take one step; returns the mean squared error of its crops."""
        options = self.options
        random = np.random.default_rng([options.seed, self.step])
        tiles, crops = self.tiles.sample(*options.crops(self.step), random)
        crops = crops.to(self.device, memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        use_bf16 = options.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=use_bf16):
            with torch.set_grad_enabled(options.decoder_of is None):
                latents = self.network.taesd_encoder(crops)
            noise = torch.randn(latents.shape, generator=generator).to(self.device)
            noisy = latents + options.latent_noise * noise
            difference = self.network.taesd_decoder(noisy).float() - crops
        loss = reconstruction_loss(difference)
        if options.decoder_of is None:  # otherwise the encoder is not trained
            loss = loss + 0.05 * scale_loss(latents.float())
        loss.backward()
        self._update_weights()
        difference = difference.detach()
        self.tiles.errors[tiles] = difference.abs().mean((1, 2, 3)).cpu().numpy()
        self.step += 1
        return difference.square().mean().item()

    def _update_weights(self) -> None:
        factor = self.options.rate_factor(self.step)
        groups = (group for optimizer in self.optimizers for group in optimizer.param_groups)
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate * factor
        for optimizer in self.optimizers:
            optimizer.step()
        self.network.zero_grad(set_to_none=True)

    def save(self) -> None:
        """Write the state of the run atomically; the output folder must exist."""
        _write_state(
            self.options.output,
            {"step": self.step, "steps": self.options.steps},
            self.network.state_dict(),
            [optimizer.state_dict()["state"] for optimizer in self.optimizers],
            torch.from_numpy(self.tiles.errors),
        )

    def restore(self) -> None:
        """Continue from the saved state, if there is one.

        Raises ``ValueError`` where the number of steps was changed after the learning rate began to
        decay.
        """
        path = self.options.output / STATE_FILE
        if not path.is_file():
            return
        with safe_open(path, framework="pt") as file:
            run = json.loads(file.metadata()[_RUN_KEY])
        steps = run["steps"]
        first_decay = min(decay_start(steps), decay_start(self.options.steps))
        if steps != self.options.steps and run["step"] > first_decay:
            raise ValueError(
                f"{path}: the learning rate of this run of {steps} steps has begun to decay. "
                f"Use --steps {steps}, or name another --output."
            )
        self.step = run["step"]
        tensors = load_file(path)
        self.network.load_state_dict(_below("network", tensors))
        for number, optimizer in enumerate(self.optimizers):
            state = _optimizer_state(_below(f"optimizers.{number}", tensors))
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.tiles.errors[:] = tensors["errors"].numpy()


class ConvolutionMuon(Muon):
    """Muon (kellerjordan.github.io/posts/muon) for the weights of convolutions.

    Each weight is updated as a matrix of its output channels by everything else. The matrices are
    copies, because torch's Muon takes nothing but matrices.
    """

    def __init__(self, weights: Iterable[Tensor], learning_rate: float) -> None:
        self.weights = list(weights)
        super().__init__(
            [nn.Parameter(_as_matrix(weight.detach()).clone()) for weight in self.weights],
            lr=learning_rate,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights with their gradients, which must exist."""
        pairs = list(zip(self.param_groups[0]["params"], self.weights, strict=True))
        for matrix, weight in pairs:
            assert weight.grad is not None
            matrix.copy_(_as_matrix(weight))
            matrix.grad = _as_matrix(weight.grad)
        loss = super().step(closure)
        for matrix, weight in pairs:
            weight.copy_(_as_convolution(matrix, weight.shape))
        return loss


def _as_matrix(weight: Tensor) -> Tensor:
    """(out, in, height, width) to (out, height · width · in)."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _as_convolution(matrix: Tensor, shape: Sequence[int]) -> Tensor:
    out, channels, height, width = shape
    return matrix.view(out, height, width, channels).permute(0, 3, 1, 2)


def reconstruction_loss(difference: Tensor) -> Tensor:
    """L1 + 2·L2 + ½·L1 of the differences between neighbours, where blurred edges show.

    ``difference`` is reconstruction − image, (batch, 3, H, W).
    """
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * edges


def scale_loss(latents: Tensor) -> Tensor:
    """Squared distance of each channel of ``latents`` (batch, C, h, w) from mean 0 and std 1."""
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    return (mean.square() + (std - 1).square()).mean()


def reconstructions(network: TinyAutoencoder, images: Iterable[Tensor]) -> Iterator[Tensor]:
    """Encode and decode each of ``images`` (3, H, W) uint8; yields (3, H, W) in 0..1 on the CPU."""
    device = network.vae_scale.device
    for image in images:
        batch = (image[None].float() / 255).to(device, memory_format=torch.channels_last)
        with torch.inference_mode():
            yield network.decode(network.encode(batch))[0].cpu()


def adopt_old_state(folder: Path) -> None:
    """Convert the state of a run that an earlier version of this trainer wrote, a pickle."""
    path = folder / _OLD_STATE_FILE
    if not path.is_file() or (folder / STATE_FILE).is_file():
        return
    old = torch.load(path, map_location="cpu", weights_only=True)
    settings = {**old["settings"], "images": old["pictures"]}
    settings["image_size"] = settings.pop("resolution")
    write_json(folder / SETTINGS_FILE, settings)
    run = {"step": old["step"], "steps": old["steps"]}
    states = [optimizer["state"] for optimizer in old["optimizers"]]
    _write_state(folder, run, old["network"], states, old["errors"])
    path.unlink()


def _write_state(
    folder: Path,
    run: Mapping[str, int],
    network: Mapping[str, Tensor],
    optimizers: Sequence[Mapping[int, Mapping[str, Tensor]]],
    errors: Tensor,
) -> None:
    tensors = {f"network.{name}": value for name, value in network.items()}
    for number, state in enumerate(optimizers):
        for index, values in state.items():
            prefix = f"optimizers.{number}.{index}"
            tensors |= {f"{prefix}.{name}": value for name, value in values.items()}
    tensors["errors"] = errors
    with write_whole(folder / STATE_FILE) as temporary:
        whole = {name: value.contiguous() for name, value in tensors.items()}
        save_file(whole, temporary, {_RUN_KEY: json.dumps(run)})


def _optimizer_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Name and tensor by parameter, from tensors called "parameter.name"."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        # Fused AdamW reads moments in the memory order of the weights, which files do not keep.
        order = torch.channels_last if value.ndim == 4 else torch.contiguous_format
        state.setdefault(int(index), {})[name] = value.contiguous(memory_format=order)
    return state


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}


def _mirrored(image: Tensor, side: int) -> Tensor:
    """``image`` (3, H, W), mirrored at its right and lower edge until no side is below ``side``."""
    for axis in (-2, -1):
        while image.shape[axis] < side:
            missing = side - image.shape[axis]
            mirrored = image.flip(axis).narrow(axis, 0, min(missing, image.shape[axis]))
            image = torch.cat([image, mirrored], axis)
    return image

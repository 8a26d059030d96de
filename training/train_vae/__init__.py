"""Train a tiny VAE on a folder of pictures: the one that the bundled checkpoint draws with, or one of your own style.

python -m training.train_vae --images photos --output runs/vae --steps 6000

For sets that fit into memory. The output folder gets ``vae.safetensors``, which ComfyUI's Load VAE and ``prepare --vae`` read, ``psnr.json``
and a sheet of the worst pictures. The same command goes on where a run was ended. Step n draws from (seed, n), so that one that was ended
takes the steps of one that was not.

The loss is L1 + 2·L2 + ½·L1 of the differences of neighbours, and a pull of each channel's mean to 0 and deviation to 1, the scale in
which a FiT is trained. A little noise on the latents keeps the decoder's answer smooth around them: a FiT's latents are never exact.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from tqdm.auto import tqdm

from comfyui_fitv2.autoencoder import TinyAutoencoder, load_autoencoder, save_autoencoder
from comfyui_fitv2.contact_sheet import SheetCell, contact_sheet

from ..command_line import run_command
from ..data.decode import read_versions
from ..data.latent_set import SD_SCALE
from ..data.sources import open_pictures
from ..data.vae import fingerprint
from ..processes import StopSignals
from ..whole_files import temporary_file, write_json
from .crops import TiledPictures

STATE_FILE, VAE_FILE, PSNR_FILE, SHEET_FILE = (
    "state.pt",
    "vae.safetensors",
    "psnr.json",
    "worst.png",
)
_WARMUP = 50
_DECAY = 0.3
"""Part of the steps, the last, in which the rate falls to 0 and crops are larger, as whole pictures are."""
_GROWTH = 2
_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class VAEOptions:
    images: Path
    """Folder of pictures, as prepare takes it."""
    output: Path
    """Folder of the run."""
    metadata: Path | None = None
    """As prepare takes it."""
    decoder_of: Path | None = None
    """A tiny VAE to begin with, whose encoder stays; None trains both from nothing."""
    resolution: int = 256
    """S: pictures are resized to at most S² pixels."""
    steps: int = 6000
    crop: int = 64
    """Pixels a side, a multiple of 8."""
    batch: int = 16
    """Crops of a step."""
    learning_rate: float = 2e-3
    """Of the convolutions between hidden layers, by Muon; the ends and biases have at most a thousandth, by AdamW."""
    latent_noise: float = 0.05
    """Deviation of the noise on latents."""
    save_every: int = 500
    seed: int = 0
    precision: str = "bf16"

    def __post_init__(self) -> None:
        if self.crop < 32 or self.crop % 8:
            raise ValueError(f"--crop must be a multiple of 8 of at least 32, not {self.crop}.")
        for name in ("steps", "batch", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} must be 1 or more, not {getattr(self, name)}."
                )

    @property
    def settings(self) -> dict[str, Any]:
        """What a run that goes on must share."""
        kept = {
            key: value
            for key, value in asdict(self).items()
            if key not in ("images", "output", "metadata", "save_every", "steps")
        }
        return kept | {"decoder_of": self.decoder_of and fingerprint(str(self.decoder_of))}

    def rate(self, step: int) -> float:
        """Factor on the learning rates."""
        return min(1.0, (step + 1) / _WARMUP, (self.steps - step) / (_DECAY * self.steps))

    @property
    def turn(self) -> int:
        """The step from which on the rate falls."""
        return round((1 - _DECAY) * self.steps)

    def crops(self, step: int) -> tuple[int, int]:
        """How many, of which side."""
        return (
            (max(self.batch // _GROWTH**2, 1), self.crop * _GROWTH)
            if step >= self.turn
            else (self.batch, self.crop)
        )


class VAERun:
    """A TinyAutoencoder in training."""

    def __init__(self, options: VAEOptions, pictures: Sequence[Tensor]) -> None:
        self.options = options
        self.tiles = TiledPictures(
            [_at_least(picture, options.crop * _GROWTH) for picture in pictures]
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            network = (
                load_autoencoder(options.decoder_of) if options.decoder_of else TinyAutoencoder()
            )
        trained = network.taesd_decoder if options.decoder_of else network
        trained.train().requires_grad_()
        # Channels last, as pictures come: three quarters of the time on a CPU.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.hidden = [
            m.weight
            for m in trained.modules()
            if isinstance(m, nn.Conv2d) and m.in_channels == m.out_channels
        ]
        # Muon takes matrices: these share the memory of the convolutions' weights, output channels by all else.
        self.matrices = [nn.Parameter(_as_matrix(weight.data)) for weight in self.hidden]
        ends = [p for p in trained.parameters() if all(p is not weight for weight in self.hidden)]
        self.optimizers: list[Optimizer] = [
            Muon(
                self.matrices,
                lr=options.learning_rate,
                weight_decay=0.0,
                adjust_lr_fn="match_rms_adamw",
            ),
            AdamW(
                ends,
                lr=min(options.learning_rate, 1e-3),
                betas=(0.9, 0.99),
                weight_decay=0.0,
                fused=True,
            ),
        ]
        self.rates = [
            group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups
        ]
        self.step = 0

    def take_step(self) -> float:
        """One step; the mean square error of its crops."""
        options = self.options
        random = np.random.default_rng([options.seed, self.step])
        count, side = options.crops(self.step)
        drawn, crops = self.tiles.draw(count, side, random)
        crops = crops.to(memory_format=torch.channels_last)
        noise = torch.Generator().manual_seed(int(random.integers(2**62)))
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            with torch.set_grad_enabled(options.decoder_of is None):
                latents = self.network.taesd_encoder(crops)
            noisy = latents + options.latent_noise * torch.randn(latents.shape, generator=noise)
            difference = self.network.taesd_decoder(noisy).float() - crops
        loss = reconstruction_loss(difference)
        if options.decoder_of is None:  # else the encoder does not learn
            loss = loss + 0.05 * scale_loss(latents.float())
        loss.backward()
        for matrix, weight in zip(self.matrices, self.hidden, strict=True):
            assert weight.grad is not None
            matrix.grad = _as_matrix(weight.grad)
        groups = (group for optimizer in self.optimizers for group in optimizer.param_groups)
        for group, rate in zip(groups, self.rates, strict=True):
            group["lr"] = rate * options.rate(self.step)
        for optimizer in self.optimizers:
            optimizer.step()
        self.network.zero_grad(set_to_none=True)
        self.tiles.errors[drawn] = difference.detach().abs().mean((1, 2, 3)).numpy()
        self.step += 1
        return difference.detach().square().mean().item()

    def save(self) -> None:
        state = {
            "settings": self.options.settings,
            "steps": self.options.steps,
            "turn": self.options.turn,
            "pictures": len(self.tiles.pictures),
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "errors": torch.from_numpy(self.tiles.errors),
        }
        self.options.output.mkdir(parents=True, exist_ok=True)
        with temporary_file(self.options.output / STATE_FILE) as file:
            torch.save(state, file)

    def restore(self) -> None:
        """Go on from what ``save`` wrote, if anything. Raises ``ValueError`` where that was another run."""
        path = self.options.output / STATE_FILE
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        if state["steps"] != self.options.steps and state["step"] > min(
            state["turn"], self.options.turn
        ):
            raise ValueError(
                f"{path}: the learning rate of a run of {state['steps']} steps falls already. Name another --output, or that many --steps."
            )
        before, now = (
            state["settings"] | {"pictures": state["pictures"]},
            self.options.settings | {"pictures": len(self.tiles.pictures)},
        )
        if changed := [
            f"{key} {before.get(key)}, now {value}"
            for key, value in now.items()
            if before.get(key) != value
        ]:
            raise ValueError(
                f"{path} was trained otherwise ({'; '.join(changed)}). Name another --output, or remove that folder to begin anew."
            )
        self.step = state["step"]
        self.network.load_state_dict(
            state["network"]
        )  # copies, so the matrices still share the memory
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.tiles.errors[:] = state["errors"].numpy()


def reconstruction_loss(difference: Tensor) -> Tensor:
    """Of ``difference`` (batch, 3, H, W): L1 + 2·L2 + ½·L1 of what neighbours differ by, which is where edges blur."""
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.5 * edges


def scale_loss(latents: Tensor) -> Tensor:
    """How far each channel of ``latents`` (batch, C, H, W) is from mean 0 and deviation 1."""
    return (latents.mean((0, 2, 3)).square() + (latents.std((0, 2, 3)) - 1).square()).mean()


def psnr(difference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0..1 that differ by ``difference``."""
    return -10 * float(np.log10(max(difference.square().mean().item(), 1e-10)))


def train_vae(options: VAEOptions) -> bool:
    """Train, or go on; whether the run is complete. Raises ``ValueError`` or ``OSError`` on what the person can put right."""
    names, pictures = zip(*_read_pictures(options), strict=True)
    run = VAERun(options, pictures)
    run.restore()
    if run.step >= options.steps and (options.output / PSNR_FILE).is_file():
        print(f"{options.output} is complete.")
        return True
    recent: list[float] = []
    with (
        StopSignals() as stop,
        tqdm(
            total=options.steps, initial=run.step, desc="tiny VAE", unit="step", smoothing=0.05
        ) as progress,
    ):
        while run.step < options.steps and not stop.received:
            recent = [*recent[-99:], run.take_step()]
            progress.set_postfix_str(
                f"crops {-10 * np.log10(np.mean(recent)):.2f} dB, tiles {run.tiles.errors.mean():.4f}",
                refresh=False,
            )
            progress.update()
            if run.step % options.save_every == 0:
                run.save()
    run.save()
    if run.step < options.steps:
        return False
    if options.decoder_of is None:
        run.network.vae_scale.fill_(SD_SCALE)
    save_autoencoder(options.output / VAE_FILE, run.network, f"trained on {options.images.name}")
    _report(options, run.network, names, pictures)
    return True


def reconstructions(network: TinyAutoencoder, pictures: Sequence[Tensor]) -> Iterator[Tensor]:
    """Each of ``pictures`` (3, H, W) uint8, there and back, (3, H, W) in 0..1."""
    with torch.inference_mode():
        for picture in pictures:
            image = (picture[None].float() / 255).to(memory_format=torch.channels_last)
            yield network.decode(network.encode(image))[0]


def _report(
    options: VAEOptions, network: TinyAutoencoder, names: Sequence[str], pictures: Sequence[Tensor]
) -> None:
    decoded = list(
        tqdm(
            reconstructions(network.eval(), pictures),
            total=len(pictures),
            desc="there and back",
            unit="image",
            leave=False,
        )
    )
    ratios = {
        name: psnr(after - before / 255)
        for name, before, after in zip(names, pictures, decoded, strict=True)
    }
    worst = sorted(range(len(names)), key=lambda i: ratios[names[i]])[:_SHOWN]
    cells = [
        SheetCell(
            _picture(image), column, f"{number + 1}", f"{names[i]} · {ratios[names[i]]:.1f} dB"
        )
        for number, i in enumerate(worst)
        for column, image in (("picture", pictures[i] / 255), ("there and back", decoded[i]))
    ]
    with temporary_file(options.output / SHEET_FILE) as file:
        contact_sheet(cells, "the pictures that it keeps worst").save(file, "PNG")
    values = sorted(ratios.values())
    summary = {
        "mean": sum(values) / len(values),
        "least": values[0],
        "below 26 dB": sum(v < 26 for v in values),
    }
    write_json(options.output / PSNR_FILE, {**summary, "pictures": ratios})
    print(
        f"{options.output / VAE_FILE}: {summary['mean']:.2f} dB over {len(values)} pictures, least {values[0]:.2f}"
    )


def _read_pictures(options: VAEOptions) -> list[tuple[str, Tensor]]:
    pictures = open_pictures(options.images, options.metadata)
    files = pictures.listing().files
    if not files:
        raise ValueError(
            f"{options.images}: no pictures in it. Put them in a sub-folder for each class, or name a --metadata file."
        )
    read = (
        read_versions(pictures.source(file), options.resolution)[0]
        for file in tqdm(files, desc="reading", unit="image", leave=False)
    )
    return [
        (file, torch.from_numpy(image.copy()).permute(2, 0, 1))
        for file, image in zip(files, read, strict=True)
    ]


def _at_least(picture: Tensor, side: int) -> Tensor:
    """Mirrored at its right and lower edge where it is shorter than ``side``."""
    for axis in (-2, -1):
        while picture.shape[axis] < side:
            missing = side - picture.shape[axis]
            picture = torch.cat(
                [picture, picture.flip(axis).narrow(axis, 0, min(missing, picture.shape[axis]))],
                axis,
            )
    return picture


def _as_matrix(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _picture(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.train_vae", description="Train a tiny VAE on a folder of pictures."
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="a folder with a sub-folder for each class, or as --metadata says",
    )
    parser.add_argument(
        "--metadata", type=Path, help="JSONL or CSV of file and label, as training.prepare takes it"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder of the run; the same command goes on where it ended",
    )
    parser.add_argument(
        "--decoder-of",
        type=Path,
        metavar="VAE",
        help="a tiny VAE whose decoder to train on; its encoder stays",
    )
    for name, kind, what in (
        ("resolution", int, "S: pictures are resized to at most S x S pixels"),
        ("steps", int, "optimizer steps in all"),
        ("crop", int, "pixels a side of a crop; twice that at the end"),
        ("batch", int, "crops of a step"),
        ("learning_rate", float, "of the hidden convolutions, by Muon"),
        ("latent_noise", float, "deviation of the noise on latents"),
        ("save_every", int, "steps between two saves"),
        ("seed", int, "of the first weights and of all that is drawn"),
    ):
        default = VAEOptions.__dataclass_fields__[name].default
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            default=default,
            help=f"{what} (default: {default})",
        )
    parser.add_argument(
        "--precision",
        choices=("bf16", "fp32"),
        default="bf16",
        help="of the convolutions (default: bf16)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = vars(_parser().parse_args(argv))
    complete: list[bool] = []

    def command() -> None:
        complete.append(train_vae(VAEOptions(**options)))

    return run_command(command) or (0 if complete[0] else 130)

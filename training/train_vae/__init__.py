"""Train a tiny VAE on a folder of images: a model of the bundled VAE's size, for your own style.

python -m training.train_vae --images photos --output runs/vae --steps 6000

The images must fit into memory. The output folder gets ``vae.safetensors``, which ComfyUI's Load
VAE and ``prepare --vae`` read, ``psnr.json`` with the PSNR of every image, and a sheet of the worst
reconstructions. The same command resumes a run that was stopped: everything random about step n
follows from (seed, n), so it takes the steps of an uninterrupted run.

The network, its losses and its optimizers are on one device (``--device``): an accelerator if there
is one, else the CPU. Images are read, stored and cropped on the CPU in any case.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from comfyui_fitv2.autoencoder import TinyAutoencoder, save_autoencoder
from comfyui_fitv2.metadata import SD_LATENT_FORMAT
from comfyui_fitv2.pixels import psnr, to_bytes
from sheets.contact_sheet import SheetCell, contact_sheet

from ..command_line import parse_options, run_command
from ..data.decode import read_versions
from ..data.sources import ImageSource, open_images
from ..failures import explained
from ..folder_lock import folder_lock
from ..processes import StopSignals, require_one_process
from ..whole_files import check_output_folder, require_outside, write_json, write_whole
from .config import VAEOptions
from .run import SETTINGS_FILE, VAERun, adopt_old_state, reconstructions

VAE_FILE, PSNR_FILE, SHEET_FILE = "vae.safetensors", "psnr.json", "worst.png"
_POOR_DB = 26
_SHOWN = 12


def train_vae(options: VAEOptions) -> bool:
    """Train or resume; returns whether the run is complete.

    Raises ``ValueError`` or ``OSError`` on a user's error.
    """
    require_one_process("train_vae", "Start it with: python -m training.train_vae ...")
    output = options.output
    if options.metadata is None:
        require_outside(output, options.images)
    memory = "Use a smaller --batch, --crop or --image-size, in another --output."
    saved = f"What was saved last is in {output}; the same command resumes."
    with explained(memory, last_state=lambda: saved), folder_lock(output, "trains here"):
        return _train(options)


def _train(options: VAEOptions) -> bool:
    source = open_images(options.images, options.metadata)
    listing = source.listing()
    for line in listing.report(f"left out of {options.images}"):
        print(line, file=sys.stderr)
    files = listing.files
    if not files:
        listing.stop_at_problems()
        raise ValueError(
            f"{options.images}: no images in it. Put them in a sub-folder for each class, "
            "or name a --metadata file."
        )
    adopt_old_state(options.output)
    settings = options.settings(len(files))
    check_output_folder(
        options.output, settings, name=SETTINGS_FILE, holds="training state of a VAE"
    )
    images = _read_images(source, files, options.image_size)
    run = VAERun(options, images)
    run.restore()
    if run.step >= options.steps and (options.output / PSNR_FILE).is_file():
        print(f"{options.output} is complete.")
        return True
    _take_steps(run)
    run.save()
    if run.step < options.steps:
        return False
    if options.decoder_of is None:
        run.network.vae_scale.fill_(SD_LATENT_FORMAT.scale_factor)
    save_autoencoder(options.output / VAE_FILE, run.network, f"trained on {options.images.name}")
    _report(options, run.network, files, images)
    return True


def _take_steps(run: VAERun) -> None:
    """Train to the last step, or until a signal asks to stop."""
    steps = run.options.steps
    recent: list[float] = []
    with (
        StopSignals() as stop,
        tqdm(
            total=steps, initial=run.step, desc="tiny VAE", unit="step", smoothing=0.05
        ) as progress,
    ):
        while run.step < steps and not stop.received:
            recent = [*recent[-99:], run.take_step()]
            decibels = -10 * np.log10(np.mean(recent))
            progress.set_postfix_str(
                f"crops {decibels:.2f} dB, tiles {run.tiles.errors.mean():.4f}", refresh=False
            )
            progress.update()
            if run.step % run.options.save_every == 0:
                run.save()


def _report(
    options: VAEOptions, network: TinyAutoencoder, files: Sequence[str], images: Sequence[Tensor]
) -> None:
    """Write the PSNR of every image and the sheet of the worst, and print a summary."""
    decoded = list(
        tqdm(
            reconstructions(network.eval(), images),
            total=len(images),
            desc="reconstructing",
            unit="image",
            leave=False,
        )
    )
    pairs = zip(decoded, images, strict=True)
    values = [psnr(reconstruction, image / 255) for reconstruction, image in pairs]
    worst = sorted(range(len(files)), key=values.__getitem__)[:_SHOWN]
    originals = [SheetCell(_to_pil(images[i] / 255), files[i]) for i in worst]
    reconstructed = [SheetCell(_to_pil(decoded[i]), f"{values[i]:.1f} dB") for i in worst]
    sheet = contact_sheet(
        [originals, reconstructed],
        ["original", "reconstruction"],
        title="worst reconstructions",
    )
    with write_whole(options.output / SHEET_FILE) as temporary:
        sheet.save(temporary, "PNG")
    mean, lowest = sum(values) / len(values), min(values)
    summary = {
        "mean": mean,
        "lowest": lowest,
        f"below {_POOR_DB} dB": sum(value < _POOR_DB for value in values),
        "images": dict(zip(files, values, strict=True)),
    }
    write_json(options.output / PSNR_FILE, summary)
    print(
        f"{options.output / VAE_FILE}: {mean:.2f} dB on average over {len(values)} images, "
        f"lowest {lowest:.2f} dB"
    )


def _read_images(source: ImageSource, files: Sequence[str], image_size: int) -> list[Tensor]:
    """The resized versions of all images, each (3, H, W) uint8.

    Raises ``ValueError`` for one that cannot be read.
    """
    images = []
    for file in tqdm(files, desc="reading", unit="image", leave=False):
        try:
            resized, _ = read_versions(source.source(file), image_size)
        except Exception as error:  # damaged images raise anything
            raise ValueError(
                f"{source.root / file}: {str(error) or type(error).__name__}. Remove or replace it."
            ) from None
        images.append(torch.from_numpy(resized.copy()).permute(2, 0, 1))
    return images


def _to_pil(image: Tensor) -> Image.Image:
    return Image.fromarray(to_bytes(image))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.train_vae``; returns the exit status."""

    def command() -> int:
        options = parse_options(
            VAEOptions,
            argv,
            prog="python -m training.train_vae",
            description="Train a tiny VAE on a folder of images.",
        )
        return 0 if train_vae(options) else 130

    return run_command(command)

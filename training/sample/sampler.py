"""A checkpoint and its VAE, opened once, which write images of any settings as files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from comfyui_fitv2.checkpoint import LoadedModel, load_checkpoint
from comfyui_fitv2.config import PRECISIONS
from comfyui_fitv2.flow import require_rectified_flow
from comfyui_fitv2.metadata import SD_LATENT_FORMAT
from comfyui_fitv2.pixels import to_bytes
from comfyui_fitv2.resolution import Resolution
from comfyui_fitv2.sharded import find_source

from ..data.latent_set import VAE_FINGERPRINT, VAE_NAME
from ..data.vae import (
    TINY,
    VAE,
    fingerprint,
    is_bundled,
    open_vae,
    same_latents,
    vae_digest,
)
from ..whole_files import file_digest, write_whole
from .generate import Request, SamplingSettings, generate


@dataclass(frozen=True, slots=True)
class Sampler:
    """A checkpoint and the VAE of its latents. The digests identify the contents of their files."""

    loaded: LoadedModel
    checkpoint_digest: str
    vae: VAE
    vae_digest: str
    device: torch.device

    @classmethod
    def open(
        cls,
        checkpoint: Path,
        vae: str | None,
        *,
        precision: str = "fp32",
        preset: str | None = None,
        device: torch.device,
    ) -> Sampler:
        """Read both, each once; ``vae`` is a name as in ``open_vae``, None the checkpoint's own.

        ``precision``, a key of ``PRECISIONS``, is that of the model; the solver and the VAE compute
        in fp32. Raises ``ValueError`` or ``FileNotFoundError`` on a checkpoint or a VAE that cannot
        be used, and on a VAE that is not the one of the checkpoint's latents.
        """
        loaded = load_checkpoint(checkpoint, preset=preset, dtype=PRECISIONS[precision])
        require_rectified_flow(loaded.config)
        name = vae or _recorded_vae(loaded)
        opened = open_vae(name, device)
        _check_vae(loaded, opened, name)
        loaded.model.to(device)
        digest = file_digest(*find_source(checkpoint).files)
        return cls(loaded, digest, opened, vae_digest(name), device)

    def write_missing(
        self,
        batches: Sequence[Sequence[Request]],
        settings: SamplingSettings,
        folder: Path,
        *,
        packed: bool = False,
        quiet: bool = False,
    ) -> None:
        """Generate the batches whose images ``folder`` does not have yet, and write them as PNGs.

        ``packed`` allows batches of several sizes; ``quiet`` shows no progress.
        """
        missing = [
            batch for batch in batches if not all((folder / r.file_name).is_file() for r in batch)
        ]
        total, left = (sum(map(len, some)) for some in (batches, missing))
        with tqdm(
            total=total, initial=total - left, desc="generating", unit="image", disable=quiet
        ) as progress:
            for batch in missing:
                latents = generate(
                    self.loaded.model, batch, settings, packed=packed, device=self.device
                )
                # Decoded one at a time, so that no other image changes one, and large ones fit.
                for request, x in zip(batch, latents, strict=True):
                    _write_png(folder / request.file_name, self.vae.decode(x[None])[0])
                    progress.update()


def write_npz(path: Path, files: Sequence[Path], size: Resolution) -> None:
    """Write images of one size as the array ``arr_0`` (images, height, width, 3) uint8.

    ADM's evaluator reads such files. One image is in memory at a time: 50,000 would take 10 GB.
    """
    header = {
        "descr": "|u1",
        "fortran_order": False,
        "shape": (len(files), size.height, size.width, 3),
    }
    with (
        write_whole(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as array,
    ):
        np.lib.format.write_array_header_1_0(array, header)
        for file in tqdm(files, desc=path.name, unit="image", leave=False):
            with Image.open(file) as image:
                array.write(np.asarray(image.convert("RGB")).tobytes())


def _write_png(path: Path, image: Tensor) -> None:
    with write_whole(path) as temporary:
        Image.fromarray(to_bytes(image)).save(temporary, "PNG")


def _recorded_vae(loaded: LoadedModel) -> str:
    """The bundled VAE, if the checkpoint's latents are of it or it names none.

    Raises ``ValueError`` where it names another one.
    """
    training = loaded.metadata.training
    name = training.get(VAE_NAME, TINY)
    if name != TINY and not is_bundled(training.get(VAE_FINGERPRINT)):
        raise ValueError(
            f"the checkpoint was trained on latents of the VAE {name}. Name that file or folder, "
            f"such as --vae path/to/{name}."
        )
    return TINY


def _check_vae(loaded: LoadedModel, vae: VAE, name: str) -> None:
    channels = loaded.config.in_channels
    if vae.channels != channels:
        raise ValueError(
            f"--vae {name} decodes latents of {vae.channels} channels, "
            f"the checkpoint generates {channels}."
        )
    scale = (loaded.latent_format or SD_LATENT_FORMAT).scale_factor
    if abs(vae.scale_factor / scale - 1) > 1e-3:
        raise ValueError(
            f"--vae {name} scales latents by {vae.scale_factor:g}, the checkpoint was trained on "
            f"{scale:g}. Name the VAE that its latents were made with."
        )
    recorded = loaded.metadata.training.get(VAE_FINGERPRINT)
    if recorded and not same_latents(recorded, fingerprint(vae)):
        raise ValueError(
            f"--vae {name} is another VAE than that of the checkpoint's latents, "
            f"{loaded.metadata.training.get(VAE_NAME)}. Name that one."
        )

"""The options of ``prepare``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..data.vae import TINY, vae_digest


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareOptions:
    """Raises ``ValueError`` for a value out of range."""

    images: Path
    """Folder with a sub-folder of images for each class, or a folder that `datasets` saved."""
    output: Path | None = None
    """Folder of the latent set, or an address such as s3://bucket/latents. The same command resumes
    an unfinished set, and follows the images when some are added, removed or replaced."""
    check: bool = False
    """Encode nothing: write a page on the images, and print its main points."""
    image_size: Annotated[int, tyro.conf.arg(aliases=["--resolution"])] = 256
    """S in pixels, a multiple of 16: a resized image has at most S² pixels, a crop is S × S."""
    vae: str = TINY
    """"tiny", a file in TAESD layout, a diffusers AutoencoderKL folder, a single file of Stable
    Diffusion's VAE, or a name on Hugging Face, if it was downloaded before."""
    metadata: Path | None = None
    """JSONL or CSV file with a file (in the images folder) and a label per line, instead of
    sub-folders."""
    scale_factor: float | None = None
    """Scale of a VAE file that does not store its own, such as 0.13025 for SDXL's."""
    enlarge: bool = False
    """Enlarge images with fewer than S² pixels to about that many."""
    flip: bool = True
    """Encode mirrored images too; not for text or flags."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the VAE."""
    batch_size: int = 16
    """Maximum number of images that are encoded together."""
    shard_size: int | None = None
    """Images per file of the set; by default as many as make up to 256 MiB, and fewer where there
    are few images."""
    workers: int | None = None
    """Processes that decode images, for each process that encodes; by default one per core, at most
    8."""
    device: str | None = None
    """Device of the VAE, such as cpu or cuda:1; by default the one that accelerate assigns."""
    cache: str = ""
    """Folder of this machine for what is sent to an address; by default that of the variable
    FITV2_CACHE, or ~/.cache/fitv2."""
    relist: bool = False
    """List the images anew also where an unfinished set is resumed and no folder has changed."""
    ignore_problems: bool = False
    """Go on where prepare would stop, because the images look as if there was a mistake."""

    def __post_init__(self) -> None:
        if not self.check:
            _ = self.place
        if self.image_size < 16 or self.image_size % 16:
            raise ValueError(
                f"--image-size must be a multiple of 16, such as 256, not {self.image_size}."
            )
        for name, value, least in (
            ("batch-size", self.batch_size, 1),
            ("shard-size", self.shard_size, 1),
            ("workers", self.workers, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"--{name} must be {least} or more, not {value}.")

        if self.scale_factor is not None and not 0 < self.scale_factor < math.inf:
            raise ValueError(f"--scale-factor must be above 0, not {self.scale_factor:g}.")

    @property
    def place(self) -> Path:
        """Where the latent set goes. Raises ``ValueError`` where only a check was asked for."""
        if self.output is None:
            raise ValueError("--output is missing: the folder for the latent set.")
        return self.output

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the latents, besides the images."""
        # Left out where it is off: older plans do not have it.
        enlarge = {"enlarge": True} if self.enlarge else {}
        return {
            "image-size": self.image_size,
            "vae": vae_digest(self.vae),
            "scale-factor": self.scale_factor,
            "flip": self.flip,
            "precision": self.precision,
            "batch-size": self.batch_size,
            **enlarge,
        }

"""The options of training a tiny VAE, and what they mean for each step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..data.vae import vae_digest

GROWTH = 2
"""Factor on the side of the crops in the last part of the training."""
_WARMUP = 50
_DECAY = 0.3
"""Fraction of the steps, at the end, in which the learning rate falls to 0 and crops are larger."""
_NOT_COMPARED = ("images", "output", "metadata", "steps", "save_every", "device")


@dataclass(frozen=True, kw_only=True, slots=True)
class VAEOptions:
    """Raises ``ValueError`` for a value out of range."""

    images: Path
    """Folder with a sub-folder of images for each class. All images must fit into memory."""
    output: Path
    """Folder of the run. The same command resumes an unfinished run."""
    metadata: Path | None = None
    """JSONL or CSV file with a file and a label per line, instead of sub-folders."""
    decoder_of: Path | None = None
    """A tiny VAE of which only the decoder is trained further, so its latents stay valid."""
    image_size: Annotated[int, tyro.conf.arg(aliases=["--resolution"])] = 256
    """S in pixels: images are resized to at most S² pixels."""
    steps: int = 6000
    """Number of optimizer steps."""
    crop: int = 64
    """Side of a crop in pixels, a multiple of 8; twice that in the last 30 % of the steps."""
    batch: int = 16
    """Number of crops per step; a quarter of that in the last 30 % of the steps."""
    learning_rate: float = 2e-3
    """Learning rate of Muon, for hidden convolutions; AdamW's, for the rest, is at most 0.001."""
    latent_noise: float = 0.05
    """Standard deviation of the noise that is added to latents before they are decoded."""
    save_every: int = 500
    """Number of steps between two saves."""
    seed: int = 0
    """Seed of the initial weights, the crops and the noise."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of the convolutions. Weights, losses and optimizer states are in fp32."""
    device: str | None = None
    """Device of the network, such as cpu, cuda:1 or mps; by default an accelerator or else cpu."""

    def __post_init__(self) -> None:
        if self.crop < 32 or self.crop % 8:
            raise ValueError(f"--crop must be a multiple of 8 of at least 32, not {self.crop}.")
        for name, value, least in (
            ("image-size", self.image_size, 16),
            ("steps", self.steps, 1),
            ("batch", self.batch, 1),
            ("latent-noise", self.latent_noise, 0),
            ("save-every", self.save_every, 1),
            ("seed", self.seed, 0),
        ):
            if not value >= least:
                raise ValueError(f"--{name} must be {least} or more, not {value:g}.")
        if not self.learning_rate > 0:
            raise ValueError(f"--learning-rate must be above 0, not {self.learning_rate:g}.")

    def settings(self, images: int) -> dict[str, Any]:
        """The settings that a run on this number of images keeps when it is resumed."""
        compared = {k: v for k, v in asdict(self).items() if k not in _NOT_COMPARED}
        digest = self.decoder_of and vae_digest(str(self.decoder_of))
        return {**compared, "decoder_of": digest, "images": images}

    def rate_factor(self, step: int) -> float:
        """Factor on the learning rates: a linear warm-up, then constant, then a linear decay."""
        return min(1.0, (step + 1) / _WARMUP, (self.steps - step) / (_DECAY * self.steps))

    def crops(self, step: int) -> tuple[int, int]:
        """Number of crops in a step, and their side in pixels."""
        if step < decay_start(self.steps):
            return self.batch, self.crop
        return max(self.batch // GROWTH**2, 1), self.crop * GROWTH


def decay_start(steps: int) -> int:
    """The step from which on the learning rate of a run of ``steps`` steps decays."""
    return round((1 - _DECAY) * steps)

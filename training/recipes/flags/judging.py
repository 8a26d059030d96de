"""How well a generated image shows its flag: which flag is nearest, and how ragged it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from comfyui_fitv2.pixels import from_bytes, psnr, to_bytes
from comfyui_fitv2.resolution import Resolution, snap

from ...data.vae import VAE
from ...whole_files import write_whole
from .flags import Flag

_HEIGHT = 48
_SQUARE = snap(512, 512)
"""Size at which all flags are kept."""
_SAME = 0.01
"""RMS of RGB in 0..1 below which two flags are the same image."""


class Judge:
    """Tells which flag an image shows."""

    def __init__(self, flags: Sequence[Flag]) -> None:
        self.names = [flag.name for flag in flags]
        self._wide = [flag.image(_SQUARE) for flag in flags]
        self._tall = [
            square.transpose(Image.Transpose.TRANSPOSE) if flag.is_wide else square
            for flag, square in zip(flags, self._wide, strict=True)
        ]
        self._small: dict[tuple[int, bool], np.ndarray] = {}

    def judge(self, image: Image.Image, own: int) -> tuple[int, float]:
        """The index of the nearest flag, and the RMS of RGB in 0..1 to the flag ``own``.

        It is ``own`` where the nearest is the same image under another name.
        """
        references = self._at(image)
        distances = _rms(references - _small(image.convert("RGB"), references.shape[2]))
        nearest = int(distances.argmin())
        same = _rms(references[own : own + 1] - references[nearest])[0] < _SAME
        return own if same else nearest, float(distances[own])

    def _at(self, image: Image.Image) -> np.ndarray:
        """All flags in the proportions of ``image``, (flags, 48, width, 3)."""
        width = max(round(image.width * _HEIGHT / image.height), 1)
        key = width, image.height > image.width
        if key not in self._small:
            flags = self._tall if key[1] else self._wide
            self._small[key] = np.stack([_small(flag, width) for flag in flags])
        return self._small[key]


class Raggedness:
    """How far an image is from its flag as the VAE alone would show it.

    The reference is the flag at the image's size, encoded and decoded, so that what the VAE loses
    does not count. References are stored in ``folder``: they take as long as the images.
    """

    def __init__(self, flags: Sequence[Flag], vae: VAE, folder: Path) -> None:
        self._flags = flags
        self._vae = vae
        self._folder = folder

    def measure(self, image: Image.Image, flag: int) -> tuple[float, float]:
        """Mean absolute error of RGB in 0..1 to the flag of index ``flag``, and PSNR in dB."""
        reference = self._reference(self._flags[flag], Resolution(*image.size))
        generated = from_bytes(np.asarray(image.convert("RGB")))
        return (generated - reference).abs().mean().item(), psnr(generated, reference)

    def of_vae(self, flag: Flag, size: Resolution) -> float:
        """PSNR in dB of the VAE's reconstruction of a flag."""
        return psnr(self._reference(flag, size), from_bytes(np.asarray(flag.image(size))))

    def _reference(self, flag: Flag, size: Resolution) -> Tensor:
        file = self._folder / f"{flag.code}_{size.width}x{size.height}.png"
        if not file.is_file():
            image = from_bytes(np.asarray(flag.image(size)))[None]
            self._folder.mkdir(parents=True, exist_ok=True)
            with write_whole(file) as temporary:
                Image.fromarray(to_bytes(self._vae.reconstruct(image)[0])).save(temporary, "PNG")
        with Image.open(file) as reference:
            return from_bytes(np.asarray(reference))


def _small(image: Image.Image, width: int) -> np.ndarray:
    return np.asarray(image.resize((width, _HEIGHT), Image.Resampling.BOX), np.float32) / 255


def _rms(differences: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(differences).mean(axis=(1, 2, 3)))

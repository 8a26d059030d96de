"""Latent sets in the layout of the official releases: one safetensors file per version of an image.

N is the maximum number of tokens: 256 (256 pixels on a side) or 1024 (512). ``from_16_to_N`` holds
images of at most N tokens, ``greater_than_N_resize`` larger ones, resized, and
``greater_than_N_crop``, under the same name, the crops of those that are longer on both sides.
``feature`` is (2, rows, columns, 16), of the plain and the mirrored image: tokens, channels ordered
(c p1 p2), sampled from the posterior and scaled. ``label`` is the ImageNet class.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from math import isqrt
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm.auto import tqdm

from comfyui_fitv2.config import PATCH_SIZE
from comfyui_fitv2.labels import IMAGENET_CLASSES, imagenet_class_names
from comfyui_fitv2.metadata import SD_LATENT_FORMAT
from comfyui_fitv2.resolution import TOKEN_PIXELS

from .latent_set import LatentSet, LatentSetError, LatentSetInfo

_LAYOUT = re.compile(r"from_16_to_(\d+)|greater_than_(\d+)_(?:resize|crop)")
_READERS = 16


def official_tokens(path: Path) -> int | None:
    """N of a folder in the official layout; None for any other."""
    folders = (p.name for p in sorted(path.glob("*_*")) if p.is_dir())
    matches = (_LAYOUT.fullmatch(name) for name in folders)
    return next((int(match[1] or match[2]) for match in matches if match), None)


class OfficialLatentSet(LatentSet):
    """Reads every file's label and size on opening, and latents when asked for them."""

    def __init__(self, path: Path, tokens: int) -> None:
        self._files = _find_files(path, tokens)
        with ThreadPoolExecutor(_READERS) as readers:
            heads = list(
                tqdm(
                    readers.map(_read_head, self._files),
                    total=len(self._files),
                    desc="reading latent set",
                    unit="image",
                    leave=False,
                )
            )
        self.class_ids = np.array([class_id for class_id, _ in heads], dtype=np.int64)
        self.grids = np.array([grids for _, grids in heads], dtype=np.int64)
        low, high = self.class_ids.min(), self.class_ids.max()
        if not 0 <= low <= high < IMAGENET_CLASSES:
            raise LatentSetError(
                path,
                f"labels from {low} to {high}; an official set has the {IMAGENET_CLASSES} classes "
                "of ImageNet.",
            )
        self.info = LatentSetInfo(
            class_names=tuple(imagenet_class_names() or map(str, range(IMAGENET_CLASSES))),
            channels=_read_tokens(self._files[0][0]).shape[-1] // PATCH_SIZE**2,
            image_size=isqrt(tokens) * TOKEN_PIXELS,
            latent_format=SD_LATENT_FORMAT,
            vae="Stable Diffusion's, by the official release",
        )

    def names(self) -> list[str]:
        return [files[0].name for files in self._files]

    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        tokens = _read_tokens(self._files[index][-1 if cropped else 0])[int(flipped)].float()
        rows, columns, width = tokens.shape
        latents = (
            tokens.view(rows, columns, width // PATCH_SIZE**2, PATCH_SIZE, PATCH_SIZE)
            .permute(2, 0, 3, 1, 4)
            .reshape(-1, rows * PATCH_SIZE, columns * PATCH_SIZE)
        )
        return latents, torch.zeros_like(latents)


def _find_files(path: Path, tokens: int) -> list[tuple[Path, ...]]:
    """The resized and, where there is one, the cropped version of every image."""
    small = path / f"from_16_to_{tokens}"
    large = path / f"greater_than_{tokens}_resize"
    crops = path / f"greater_than_{tokens}_crop"
    small_names, large_names, crop_names = (
        {file.name for file in folder.glob("*.safetensors")} for folder in (small, large, crops)
    )
    if lone := sorted(crop_names - large_names):
        raise LatentSetError(
            crops,
            f"{len(lone)} files are not in {large.name}, such as {lone[0]}. Copy the set again.",
        )
    files: list[tuple[Path, ...]] = [(small / name,) for name in sorted(small_names)]
    for name in sorted(large_names):
        files.append((large / name, crops / name) if name in crop_names else (large / name,))
    if not files:
        raise LatentSetError(
            path, "the folders of an official latent set, but no safetensors files in them."
        )
    return files


def _read_head(files: tuple[Path, ...]) -> tuple[int, list[tuple[int, int]]]:
    """The class of an image, and the grids of its resized and its cropped version."""
    labels, grids = [], []
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                labels.append(int(file.get_tensor("label").reshape(-1)[0]))
                rows, columns = file.get_slice("feature").get_shape()[1:3]
                grids.append((rows, columns))
        except (SafetensorError, OSError) as error:
            raise LatentSetError(
                path, f"not a safetensors file with feature and label ({error}). Copy it again."
            ) from None
    return labels[0], [grids[0], grids[-1]]


def _read_tokens(path: Path) -> Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("feature")

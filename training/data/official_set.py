"""Latent sets in the layout of the official releases: a safetensors file a picture, in three folders by its size.

N is the most tokens of a picture: 256 (256 pixels a side) or 1024 (512). ``from_16_to_N`` holds pictures of at most N tokens,
``greater_than_N_resize`` larger ones, resized, and ``greater_than_N_crop`` those of them that are longer on both sides, cropped, under the
same name. ``feature`` is (2, rows, columns, 16), of the plain and the flipped picture: tokens, channels ordered (c p1 p2), drawn from the
posterior and scaled. ``label`` is the ImageNet class.
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

from comfyui_fitv2.labels import IMAGENET_CLASSES, imagenet_class_names
from comfyui_fitv2.resolution import TOKEN_PIXELS

from .latent_set import PATCH, SD_SCALE, LatentSet, LatentSetError, LatentSetInfo

_READERS = 16


def official_tokens(path: Path) -> int | None:
    """N, where the folder has the official layout."""
    names = (
        re.fullmatch(r"from_16_to_(\d+)|greater_than_(\d+)_(?:resize|crop)", p.name)
        for p in sorted(path.glob("*_*"))
        if p.is_dir()
    )
    return next((int(name[1] or name[2]) for name in names if name), None)


class OfficialLatentSet(LatentSet):
    """Every file's label and size is read once on opening; features are read when asked for."""

    def __init__(self, path: Path, tokens: int) -> None:
        folders = {
            kind: path / name
            for kind, name in (
                ("small", f"from_16_to_{tokens}"),
                ("large", f"greater_than_{tokens}_resize"),
            )
        }
        cropped = path / f"greater_than_{tokens}_crop"
        small, large, crops = (
            {p.name for p in folder.glob("*.safetensors")}
            for folder in (*folders.values(), cropped)
        )
        if lone := sorted(crops - large):
            raise LatentSetError(
                cropped,
                f"{len(lone)} files are not in {folders['large'].name}, such as {lone[0]}. Copy the set again.",
            )
        self._files = [(folders["small"] / name,) for name in sorted(small)]
        self._files += [
            (folders["large"] / name, *([cropped / name] if name in crops else []))
            for name in sorted(large)
        ]
        if not self._files:
            raise LatentSetError(
                path, "the folders of an official latent set, but no safetensors files in them."
            )
        with ThreadPoolExecutor(_READERS) as readers:
            heads = list(
                tqdm(
                    readers.map(_read_head, self._files),
                    total=len(self._files),
                    desc="reading latent set",
                    unit="picture",
                    leave=False,
                )
            )
        self.labels = np.array([label for label, _ in heads], dtype=np.int64)
        self.grids = np.array([grids for _, grids in heads], dtype=np.int64)
        if not 0 <= self.labels.min() <= self.labels.max() < IMAGENET_CLASSES:
            raise LatentSetError(
                path,
                f"labels from {self.labels.min()} to {self.labels.max()}; an official set has the {IMAGENET_CLASSES} of ImageNet.",
            )
        self.info = LatentSetInfo(
            class_names=tuple(imagenet_class_names() or map(str, range(IMAGENET_CLASSES))),
            channels=_read_feature(self._files[0][0]).shape[-1] // PATCH**2,
            resolution=isqrt(tokens) * TOKEN_PIXELS,
            latent_format={"scale_factor": SD_SCALE},
            vae="Stable Diffusion's, by the official release",
        )

    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        tokens = _read_feature(self._files[index][-1 if cropped else 0])[int(flipped)].float()
        rows, columns, width = tokens.shape
        sample = (
            tokens.view(rows, columns, width // PATCH**2, PATCH, PATCH)
            .permute(2, 0, 3, 1, 4)
            .reshape(-1, rows * PATCH, columns * PATCH)
        )
        return sample, torch.zeros_like(sample)


def _read_head(files: tuple[Path, ...]) -> tuple[int, list[tuple[int, int]]]:
    """The label of a picture, and the grids of its resized and its cropped version."""
    labels, grids = [], []
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                labels.append(int(file.get_tensor("label").reshape(-1)[0]))
                grids.append(tuple(file.get_slice("feature").get_shape()[1:3]))
        except (SafetensorError, OSError) as error:
            raise LatentSetError(
                path, f"not a safetensors file with feature and label ({error}). Copy it again."
            ) from None
    return labels[0], [grids[0], grids[-1]]


def _read_feature(path: Path) -> Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("feature")

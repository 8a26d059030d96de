"""Features of image sets, cached in files so that nothing is measured twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch_fidelity import FeatureExtractorBase
from tqdm.auto import tqdm

from comfyui_fitv2.resolution import Resolution

from ..data.decode import read_middle
from ..data.sources import ImageSource, Listing, evenly
from ..whole_files import write_whole
from .metrics import (
    NEIGHBOURS,
    Statistics,
    feature_statistics,
    frechet_distance,
    inception_score,
    precision_and_recall,
)

_BATCH = 64
_READERS = 8
_COLOURS = "sRGB"
"""The colours of references; features that older versions cached are of unconverted ones."""

Read = Callable[[str], tuple[np.ndarray, bool]]
"""The image of a file, (H, W, 3) uint8, and whether it was enlarged."""


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Everything that metrics need to know about a set of images of one size."""

    pooled: Tensor
    """(images, features) fp32, on the CPU."""
    pooled_statistics: Statistics
    spatial_statistics: Statistics
    inception_score: float
    enlarged: int = 0
    """Number of images that were smaller than the size."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files that were left out, each with the reason."""

    def __len__(self) -> int:
        return len(self.pooled)

    def metrics(self, reference: FeatureSet) -> tuple[float, float, float, float, float]:
        """The values of ``metrics.INCEPTION_METRICS``, in order, against a ``reference``."""
        return (
            frechet_distance(self.pooled_statistics, reference.pooled_statistics),
            frechet_distance(self.spatial_statistics, reference.spatial_statistics),
            self.inception_score,
            *precision_and_recall(self.pooled, reference.pooled),
        )

    @property
    def digest(self) -> str:
        """16 hex digits that tell the images of one set from those of another."""
        return hashlib.sha256(self.pooled.numpy().tobytes()).hexdigest()[:16]

    def floor(self, count: int) -> tuple[int, tuple[float, float, float]] | None:
        """What real images reach: ``count`` of this set, at most half, against the others of it.

        Returns their number and their Fréchet distance, precision and recall; None where there are
        too few images.
        """
        count = min(count, len(self) // 2)
        if count <= NEIGHBOURS:
            return None
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[evenly(range(len(self)), count)] = True
        some, others = self.pooled[chosen], self.pooled[~chosen]
        distance = frechet_distance(feature_statistics(some), feature_statistics(others))
        return count, (distance, *precision_and_recall(some, others))


def generated_features(
    files: Sequence[Path], extractor: FeatureExtractorBase, device: torch.device, cache: Path
) -> FeatureSet:
    """Features of images of one size, used as they are.

    They are read from the folder ``cache`` if the same files were measured before.
    """
    path = cache / f"{extractor.get_name()}-{_key(files)}.safetensors"
    if not path.is_file():
        names = list(map(str, files))
        _save(path, _measure(names, _read_whole, extractor, device, f"measuring {cache.name}"))
    return _load(path)


def reference_features(
    source: ImageSource,
    listing: Listing,
    size: Resolution,
    max_count: int,
    extractor: FeatureExtractorBase,
    device: torch.device,
    cache: Path,
) -> FeatureSet:
    """Features of the images of ``source``, which has listed them.

    Of each image the middle part with the shape of ``size`` is resized to it, as training images
    are. From more than ``max_count`` images so many are taken, evenly spread. Images that cannot
    be read are left out and listed in ``unreadable``. The features are cached in the folder
    ``cache``, by image size, extractor, and the names, lengths and modification times of the
    files. Raises ``ValueError`` where there are too few images.
    """
    files = evenly(listing.files, max_count)
    what = f"{source.root.resolve().name}-{size.width}x{size.height}"
    key = _reference_key(source, files, listing.fingerprint)
    path = cache / f"{what}-{extractor.get_name()}-{key}.safetensors"
    if not path.is_file():

        def read(file: str) -> tuple[np.ndarray, bool]:
            return read_middle(source.source(file), size.width, size.height)

        _save(path, _measure(files, read, extractor, device, f"reference at {size}"))
    return _load(path)


def _read_whole(path: str) -> tuple[np.ndarray, bool]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")), False


def _measure(
    files: Sequence[str],
    read: Read,
    extractor: FeatureExtractorBase,
    device: torch.device,
    what: str,
) -> FeatureSet:
    def attempt(path: str) -> tuple[np.ndarray, bool] | Exception:
        try:
            return read(path)
        except Exception as error:  # a broken image fails in any way
            return error

    parts: list[list[Tensor]] = []
    enlarged, unreadable = 0, {}
    with (
        ThreadPoolExecutor(_READERS) as readers,
        tqdm(total=len(files), desc=what, unit="image", leave=False) as progress,
    ):
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            images = []
            for path, result in zip(batch, readers.map(attempt, batch), strict=True):
                if isinstance(result, Exception):
                    unreadable[path] = f"{type(result).__name__}: {result}"
                else:
                    images.append(result[0])
                    enlarged += result[1]
            if images:
                stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device)
                with torch.inference_mode():
                    parts.append([part.float().cpu() for part in extractor(stacked)])
            progress.update(len(batch))
    count = len(files) - len(unreadable)
    if count <= NEIGHBOURS:
        why = "".join(f" {path}: {reason}." for path, reason in list(unreadable.items())[:1])
        raise ValueError(
            f"{count} readable images of one size are too few to measure ({what}); "
            f"recall needs {NEIGHBOURS + 1} or more.{why}"
        )
    pooled, spatial, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    return FeatureSet(
        pooled,
        feature_statistics(pooled),
        feature_statistics(spatial),
        inception_score(logits),
        enlarged,
        unreadable,
    )


def _save(path: Path, features: FeatureSet) -> None:
    statistics = {"pooled": features.pooled_statistics, "spatial": features.spatial_statistics}
    tensors = {
        f"{of}/{name}": torch.from_numpy(value)
        for of, values in statistics.items()
        for name, value in values.items()
    }
    about = {
        "inception_score": features.inception_score,
        "enlarged": features.enlarged,
        "unreadable": features.unreadable,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path) as temporary:
        save_file({"pooled": features.pooled, **tensors}, temporary, {"about": json.dumps(about)})


def _load(path: Path) -> FeatureSet:
    with safe_open(path, framework="pt") as file:
        about: dict[str, Any] = json.loads(file.metadata()["about"])
        pooled, spatial = (
            {name: file.get_tensor(f"{of}/{name}").numpy() for name in ("mu", "sigma")}
            for of in ("pooled", "spatial")
        )
        return FeatureSet(file.get_tensor("pooled"), pooled, spatial, **about)


def _key(files: Sequence[Path], about: str = "") -> str:
    """16 hex digits that change with the name, length or modification time of any file."""
    digest = hashlib.sha256(about.encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _reference_key(source: ImageSource, files: Sequence[str], fingerprint: str) -> str:
    """As ``_key``; of a set that ``datasets`` saved by its fingerprint and the number of rows."""
    if fingerprint:
        return hashlib.sha256(f"{fingerprint}\0{len(files)}".encode()).hexdigest()[:16]
    return _key([source.root / file for file in files], _COLOURS)

"""Features of sets of pictures, kept in files: what took long is done once."""

from __future__ import annotations

import hashlib
import json
import os
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
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.metric_fid import fid_features_to_statistics
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from tqdm.auto import tqdm

from comfyui_fitv2.resolution import Resolution

from ..data.decode import SUFFIXES, read_middle
from ..data.sources import evenly

NEIGHBOURS = 3
"""Precision and recall (arXiv 1904.06991) take a picture's neighbourhood to reach to its third neighbour."""

_BATCH = 64
_READERS = 8
_IS_SPLITS, _IS_SEED = 10, 2020

Statistics = dict[str, np.ndarray]
"""Mean ``mu`` and covariance ``sigma`` of features."""


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """What metrics need to know of a set of pictures of one size."""

    pooled: Tensor
    """(pictures, features) fp32, on the CPU."""
    pooled_statistics: Statistics
    spatial_statistics: Statistics
    inception_score: float
    enlarged: int = 0
    """How many pictures were smaller than the size."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Files that are not part of it, and why not."""

    def __len__(self) -> int:
        return len(self.pooled)


def drawn_features(
    files: Sequence[Path], extractor: FeatureExtractorBase, device: torch.device, cache: Path
) -> FeatureSet:
    """Features of pictures of one size as they are; read back from ``cache`` where the same files were measured before."""
    path = cache / f"{extractor.get_name()}-{_key(files)}.safetensors"
    return _kept(
        path, lambda: _measure(files, _read_whole, extractor, device, f"measuring {cache.name}")
    )


def reference_features(
    folder: Path,
    size: Resolution,
    most: int,
    extractor: FeatureExtractorBase,
    device: torch.device,
    cache: Path,
) -> FeatureSet:
    """Features of the pictures anywhere below ``folder``, each cut from its middle to the shape of ``size`` and resized as training pictures are.

    Of more than ``most`` pictures so many are taken, evenly. Kept in ``cache`` by the files' names, sizes and times, the picture size
    and the extractor. A picture that cannot be read is left out and named in ``unreadable``. Raises ``ValueError`` where there are too few.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder of reference pictures.")
    below = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    files = sorted(
        path
        for path in below
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise ValueError(f"{folder} holds no pictures to compare with.")
    files = evenly(files, most)

    def read(path: Path) -> tuple[np.ndarray, bool]:
        return read_middle(path, size.width, size.height)

    path = (
        cache
        / f"{folder.resolve().name}-{size.width}x{size.height}-{extractor.get_name()}-{_key(files)}.safetensors"
    )
    return _kept(path, lambda: _measure(files, read, extractor, device, f"reference at {size}"))


def _read_whole(path: Path) -> tuple[np.ndarray, bool]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")), False


def _measure(
    files: Sequence[Path],
    read: Callable[[Path], tuple[np.ndarray, bool]],
    extractor: FeatureExtractorBase,
    device: torch.device,
    what: str,
) -> FeatureSet:
    def attempt(path: Path) -> tuple[np.ndarray, bool] | Exception:
        try:
            return read(path)
        except Exception as error:  # a broken picture fails in any way
            return error

    parts: list[list[Tensor]] = []
    enlarged, unreadable = 0, {}
    with (
        ThreadPoolExecutor(_READERS) as readers,
        tqdm(total=len(files), desc=what, unit="image", leave=False) as progress,
    ):
        for start in range(0, len(files), _BATCH):
            batch = files[start : start + _BATCH]
            results = list(readers.map(attempt, batch))
            unreadable |= {
                str(path): f"{type(e).__name__}: {e}"
                for path, e in zip(batch, results, strict=True)
                if isinstance(e, Exception)
            }
            pictures = [result for result in results if not isinstance(result, Exception)]
            enlarged += sum(grown for _, grown in pictures)
            if pictures:
                stacked = torch.from_numpy(np.stack([picture for picture, _ in pictures])).permute(
                    0, 3, 1, 2
                )
                with torch.inference_mode():
                    parts.append([part.float().cpu() for part in extractor(stacked.to(device))])
            progress.update(len(batch))
    count = len(files) - len(unreadable)
    if count <= NEIGHBOURS:
        why = "".join(f" {path}: {reason}." for path, reason in list(unreadable.items())[:1])
        raise ValueError(
            f"{count} readable pictures of a size are too few to be measured ({what}); recall alone needs {NEIGHBOURS + 1}.{why}"
        )
    pooled, spatial, logits = (torch.cat(part) for part in zip(*parts, strict=True))
    score = isc_features_to_metric(logits, min(_IS_SPLITS, count // 2), rng_seed=_IS_SEED)[
        KEY_METRIC_ISC_MEAN
    ]
    return FeatureSet(
        pooled,
        fid_features_to_statistics(pooled.double()),
        fid_features_to_statistics(spatial.double()),
        score,
        enlarged,
        unreadable,
    )


def _kept(path: Path, make: Callable[[], FeatureSet]) -> FeatureSet:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(path, make())
    return _load(path)


def _save(path: Path, features: FeatureSet) -> None:
    statistics = {"pooled": features.pooled_statistics, "spatial": features.spatial_statistics}
    tensors = {
        f"{of}/{name}": torch.from_numpy(value)
        for of, values in statistics.items()
        for name, value in values.items()
    }
    told = {
        "inception_score": features.inception_score,
        "enlarged": features.enlarged,
        "unreadable": features.unreadable,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({"pooled": features.pooled, **tensors}, temporary, {"about": json.dumps(told)})
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _load(path: Path) -> FeatureSet:
    with safe_open(path, framework="pt") as file:
        told: dict[str, Any] = json.loads(file.metadata()["about"])
        pooled, spatial = (
            {name: file.get_tensor(f"{of}/{name}").numpy() for name in ("mu", "sigma")}
            for of in ("pooled", "spatial")
        )
        return FeatureSet(file.get_tensor("pooled"), pooled, spatial, **told)


def _key(files: Sequence[Path]) -> str:
    """Changes with any file's name, length or time of writing."""
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]

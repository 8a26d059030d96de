"""Images that are held out of training: which ones, and what the averaged weights make of them.

An image is held out if the hash of the seed and its name, a number in [0, 1), is below the share.
So what an image is does not depend on its place in the set, and stays when others come and go. When
a run starts, each class that can spare one has at least one held-out image, and at least one that
is trained on. ``held_out.json`` in the run's folder names the held-out images and these exceptions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch.distributed.fsdp import register_fsdp_forward_method

from comfyui_fitv2.flow import TimeDistribution

from ..data.latent_set import LatentSet
from ..whole_files import write_json
from .config import FlowConfig, HeldOutConfig
from .held_out_loss import held_out_loss, held_out_times
from .model import TrainedFiT

HELD_OUT = "held_out.json"
TIMES = 4
"""Times at which each held-out image is measured."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The held-out examples of a latent set."""

    latents: LatentSet
    indices: np.ndarray
    """Their indices, rising."""
    names: tuple[str, ...]
    """Their names, in the same order."""
    trained: frozenset[str]
    """Names of images that are trained on although their hash is below the share."""
    measured: np.ndarray
    """The indices of those whose loss is measured, rising."""

    @classmethod
    def of(
        cls, latents: LatentSet, config: HeldOutConfig, seed: int, run: Path | None = None
    ) -> HeldOut | None:
        """The held-out examples; None where there are none.

        ``run`` is the folder of a run that resumes. The images that it names stay what they were.
        """
        if not config.share:
            return None
        names = latents.names()
        hashes = name_hashes(names, seed)
        stored = _stored(run) if run else None
        if stored is None:
            chosen = choose(hashes, latents.class_ids, config.share)
            spared = np.flatnonzero(~chosen & (hashes < config.share))
            trained = frozenset(names[index] for index in spared)
        else:
            held_out, trained = stored
            below = hashes < config.share
            chosen = np.array(
                [
                    name in held_out or (bool(low) and name not in trained)
                    for name, low in zip(names, below, strict=True)
                ]
            )
        indices = np.flatnonzero(chosen)
        if not len(indices):
            return None
        by_hash = indices[np.argsort(hashes[indices], kind="stable")]
        measured = np.sort(by_hash[: config.images])
        return cls(latents, indices, tuple(names[index] for index in indices), trained, measured)

    def loss(self, model: TrainedFiT, class_map: np.ndarray, flow: FlowConfig) -> float:
        """The loss of the ``measured`` examples, always with the same noise and times.

        Where the weights are sharded, every process must ask.
        """
        register_fsdp_forward_method(model, "forward_packed")
        times = TimeDistribution(flow.timesteps, flow.mean, flow.std, flow.shift)
        device = next(model.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, enabled=model.precision == "bf16"):
            return held_out_loss(
                model,
                self.latents,
                class_map.tolist(),
                held_out_times(TIMES, times),
                device,
                self.measured.tolist(),
                progress=False,
            )

    def store(self, run: Path) -> None:
        """Write the names into the folder of the run, atomically."""
        names = {"held_out": list(self.names), "trained": sorted(self.trained)}
        write_json(run / HELD_OUT, names)


def name_hashes(names: list[str], seed: int) -> np.ndarray:
    """(n,) fp64 in [0, 1): the hash of the seed and each name."""
    digests = (blake2b(f"{seed}/{name}".encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype=">u8") / 2.0**64


def choose(hashes: np.ndarray, class_ids: np.ndarray, share: float) -> np.ndarray:
    """(n,) bool: which examples are held out.

    Every class of two examples or more has one that is held out and one that is not.
    """
    held_out = hashes < share
    # Each class's examples from the lowest hash to the highest.
    order = np.lexsort((hashes, class_ids))
    starts = np.flatnonzero(np.diff(class_ids[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        if len(members) > 1:
            held_out[members[0]], held_out[members[-1]] = True, False
        else:
            held_out[members] = False
    return held_out


def _stored(run: Path) -> tuple[frozenset[str], frozenset[str]] | None:
    """The names in the folder of a run, held out and exceptions; None where none are readable."""
    try:
        content = json.loads((run / HELD_OUT).read_text(encoding="utf-8"))
        return frozenset(content["held_out"]), frozenset(content["trained"])
    except (OSError, ValueError, TypeError, KeyError):
        return None

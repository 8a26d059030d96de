"""Images that are held out of training: which ones, and what the averaged weights make of them.

An image is held out if the hash of the seed and its name is among the lowest share of all hashes.
So it stays held out when others are added, and it does not depend on its place in the set. Each
class that can spare one has at least one held-out image. ``held_out.json`` in the run's folder
names them, because a class that grows could otherwise choose another one for it.
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
    measured: np.ndarray
    """The indices of those whose loss is measured, rising."""

    @classmethod
    def of(
        cls, latents: LatentSet, config: HeldOutConfig, seed: int, run: Path, trained: int = 0
    ) -> HeldOut | None:
        """The held-out examples of a run in the folder ``run``; None where it has none.

        The first ``trained`` examples are those of the set that a run resumes with: of them, those
        that the folder names are held out, and no others.
        """
        if not config.share:
            return None
        names, before = latents.names(), _stored_names(run) if trained else None
        hashes = name_hashes(names, seed)
        known = None
        if before is not None:
            known = np.array([name in before for name in names[:trained]], dtype=bool)
        indices = np.flatnonzero(choose(hashes, latents.class_ids, config.share, known))
        if not len(indices):
            return None
        by_hash = indices[np.argsort(hashes[indices], kind="stable")]
        measured = np.sort(by_hash[: config.images])
        return cls(latents, indices, tuple(names[index] for index in indices), measured)

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
        write_json(run / HELD_OUT, list(self.names))


def name_hashes(names: list[str], seed: int) -> np.ndarray:
    """(n,) fp64 in [0, 1): the hash of the seed and each name."""
    digests = (blake2b(f"{seed}/{name}".encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype=">u8") / 2.0**64


def choose(
    hashes: np.ndarray, class_ids: np.ndarray, share: float, known: np.ndarray | None = None
) -> np.ndarray:
    """(n,) bool: which examples are held out.

    ``known`` is the answer for the first examples, which a run has already. Every class with two
    examples or more has one that is held out and one that is not, unless ``known`` prevents it.
    """
    decided = 0 if known is None else len(known)
    held_out = hashes < share
    if known is not None:
        held_out[:decided] = known
    # Each class's examples from the lowest hash to the highest.
    order = np.lexsort((hashes, class_ids))
    starts = np.flatnonzero(np.diff(class_ids[order], prepend=-1))
    for members in np.split(order, starts[1:]):
        free = members[members >= decided]
        if len(members) < 2 or not len(free):
            held_out[free] = False
        elif not held_out[members].any():
            held_out[free[0]] = True
        elif held_out[members].all():
            held_out[free[-1]] = False
    return held_out


def _stored_names(run: Path) -> frozenset[str] | None:
    """The names in the folder of a run; None where none are readable."""
    try:
        return frozenset(json.loads((run / HELD_OUT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None

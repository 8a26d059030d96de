"""Random generators, each seeded by the numbers that identify what it is for.

No global generator is used, so resuming a run or spreading it over other processes needs no
generator state. Generators of the same (seed, epoch) differ by their ``Purpose``.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a generator of (seed, epoch) decides. Changing a number changes every run."""

    ORDER = 0
    """The order of the examples of an epoch."""
    CROP = 1
    """Which examples are seen cropped."""
    EXAMPLE = 2
    """All random numbers of one example: mirroring, label drop, time, posterior and noise."""
    BALANCE = 3
    """How often each example is drawn, with class balance."""


def epoch_generator(seed: int, epoch: int, purpose: Purpose) -> np.random.Generator:
    """The generator for a decision over all examples of an epoch."""
    return np.random.default_rng([seed, epoch, purpose])


def example_generator(seed: int, epoch: int, index: int, repeat: int = 0) -> torch.Generator:
    """The CPU generator of one example of a latent set in one epoch.

    ``repeat`` counts how often the example was drawn before in that epoch.
    """
    return _generator(seed, epoch, Purpose.EXAMPLE, index, *([repeat] if repeat else []))


def image_generator(seed: int, index: int) -> torch.Generator:
    """The CPU generator of one image to generate. Neighbouring seeds and indices share nothing."""
    return _generator(seed, index)


def _generator(*entropy: int) -> torch.Generator:
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
